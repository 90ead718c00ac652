//! ELF check: whether a file is a whole shared library for this machine, before it is mapped.
//!
//! The dynamic linker trusts what it maps. Reading behind the end of a truncated file is a SIGBUS, and a damaged offset makes
//! the linker read or write foreign memory; both would end the host. So the headers (System V ABI, ELF-64 object files,
//! chapters 4 and 5) are checked in this file, the linker's tables in [`dynamic`]. Damage in code and constants is left to
//! the child process of `probe`.
//!
//! The `object` crate would replace the reading of integers and no check, so it is not used.

mod dynamic;
mod error;
mod image;

pub use error::{ElfError, Machine};
use image::{Image, Segment, damaged, read, read_u16, read_u64};

/// Length of the ELF-64 file header.
const HEADER_LEN: u64 = 64;
/// Length of an ELF-64 program header.
const PROGRAM_HEADER_LEN: usize = 56;

const MAGIC: [u8; 4] = *b"\x7fELF";
/// `e_ident[EI_CLASS]`: ELFCLASS64.
const CLASS_64: u8 = 2;
/// `e_type`: ET_DYN.
const TYPE_SHARED: u16 = 3;
/// `p_type`.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

/// Largest address space that a library may take, in bytes.
const MAX_SPAN: u64 = 1 << 30;

/// `e_ident[EI_DATA]` of this host: ELFDATA2LSB or ELFDATA2MSB.
const HOST_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// Checks that `file` is a shared library for this machine, that no mapped byte is missing, and that the linker
/// follows no offset out of it. Returns how many bytes of address space it takes.
///
/// # Errors
/// [`ElfError`]: the first check that failed.
pub fn check_elf(file: &[u8]) -> Result<u64, ElfError> {
    if !file.starts_with(&MAGIC) {
        return Err(ElfError::NotElf);
    }
    let &[class, order] = read(file, 4)?;
    if class != CLASS_64 {
        return Err(ElfError::WrongClass { found: class });
    }
    if order != HOST_ORDER {
        return Err(ElfError::WrongByteOrder { found: order });
    }
    let machine = Machine(read_u16(file, 18)?);
    if let Some(expected) = Machine::HOST.filter(|&host| machine != host) {
        return Err(ElfError::WrongMachine { found: machine, expected });
    }
    let kind = read_u16(file, 16)?;
    if kind != TYPE_SHARED {
        return Err(ElfError::NotShared { found: kind });
    }
    check_len(file, HEADER_LEN)?;
    let (image, dynamic) = check_segments(file)?;
    dynamic::check(&image, dynamic)?;
    Ok(image.end())
}

/// Returns the mapped segments and the bytes of `PT_DYNAMIC`.
fn check_segments(file: &[u8]) -> Result<(Image<'_>, &[u8]), ElfError> {
    let (table, len, count) = (read_u64(file, 32)?, read_u16(file, 54)?, read_u16(file, 56)?);
    if usize::from(len) != PROGRAM_HEADER_LEN {
        return Err(damaged("length of a program header", len.into()));
    }
    let end = table.saturating_add(u64::from(count) * PROGRAM_HEADER_LEN as u64);
    check_len(file, end)?;
    let headers = file[table as usize..end as usize].chunks_exact(PROGRAM_HEADER_LEN);
    let mut image = Image { file, loaded: Vec::new() };
    let mut dynamic = None;
    for segment in headers.map(Segment::read) {
        let segment = segment?;
        match segment.kind {
            PT_LOAD => {
                check_loaded(&segment, &image)?;
                image.loaded.push(segment);
            }
            // The linker takes the last.
            PT_DYNAMIC => dynamic = Some(segment),
            _ => {}
        }
    }
    let dynamic = dynamic.ok_or(damaged("number of PT_DYNAMIC segments", 0))?;
    let bytes = image.bytes(dynamic.address, dynamic.in_memory);
    let bytes = bytes.ok_or(damaged("address of PT_DYNAMIC", dynamic.address))?;
    Ok((image, bytes))
}

/// Checks a segment that would be mapped behind those of `image`.
fn check_loaded(segment: &Segment, image: &Image<'_>) -> Result<(), ElfError> {
    check_len(image.file, segment.offset.saturating_add(segment.in_file))?;
    if segment.address < image.end() {
        return Err(damaged("address of a segment", segment.address));
    }
    if segment.in_file > segment.in_memory {
        return Err(damaged("length of a segment in the file", segment.in_file));
    }
    if segment.end() > MAX_SPAN {
        return Err(damaged("length of a segment in memory", segment.in_memory));
    }
    Ok(())
}

fn check_len(file: &[u8], needed: u64) -> Result<(), ElfError> {
    let len = file.len() as u64;
    if needed <= len { Ok(()) } else { Err(ElfError::Truncated { needed, len }) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::image::read_u32;
    use super::*;

    const HOST: Machine = Machine::HOST.unwrap();

    /// The C library that this program is linked with.
    pub fn library() -> Vec<u8> {
        fs::read(linked_libraries().find(|path| path.contains("/libc.so")).unwrap()).unwrap()
    }

    fn linked_libraries() -> impl Iterator<Item = String> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut files: Vec<_> = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        files.retain(|file| file.starts_with('/'));
        files.dedup();
        files.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Returns the offset of the program header of this kind.
    fn header(file: &[u8], kind: u32) -> usize {
        let headers = 64..64 + 56 * usize::from(read_u16(file, 56).unwrap());
        headers.step_by(56).find(|&at| read_u32(file, at).unwrap() == kind).unwrap()
    }

    fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn line(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut file = library();
        change(&mut file);
        check_elf(&file).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn accepts_what_the_linker_accepts() {
        let mut seen = 0;
        for file in linked_libraries() {
            check_elf(&fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{file}: {error}"));
            seen += 1;
        }
        assert!(seen >= 3, "this program, its C library and the linker: {seen}");
        assert_eq!(line(|file| file.extend([0; 10])), "accepted");
    }

    #[test]
    fn refuses_truncation() {
        let library = library();
        let image = check_segments(&library).unwrap().0;
        let mapped = image.loaded.iter().map(|segment| segment.offset + segment.in_file).max().unwrap();
        for len in (0..1000).chain((1000..mapped).step_by(7919)).chain([mapped - 1]) {
            let error = check_elf(&library[..len as usize]).unwrap_err();
            match error {
                ElfError::NotElf => assert!(len < 4, "{len}"),
                ElfError::Truncated { needed, len: found } => {
                    assert!(needed > found && found == len && needed <= mapped && len >= 4, "{len}: {error}");
                }
                _ => panic!("{len}: {error}"),
            }
        }
        assert!(check_elf(&library[..mapped as usize]).is_ok());
    }

    #[test]
    fn says_what_is_wrong() {
        type Change = fn(&mut Vec<u8>);
        let wrong: [(Change, &str); 11] = [
            (|file| file[0] = b'#', "not a shared library (no ELF header)"),
            (|file| file[4] = 1, "a 32-bit library, this host is 64-bit"),
            (|file| file[4] = 9, "ELF class 9, this host is 64-bit"),
            (|file| put(file, 16, &1u16.to_ne_bytes()), "an object file, not a shared library"),
            (|file| put(file, 16, &2u16.to_ne_bytes()), "an executable, not a shared library"),
            (|file| put(file, 54, &57u16.to_ne_bytes()), "damaged: length of a program header is 0x39"),
            (|file| file[5] = 3 - HOST_ORDER, "made for a machine of the other byte order"),
            (|file| file[5] = 7, "damaged: byte order is 0x7"),
            (
                |file| {
                    let at = header(file, PT_DYNAMIC);
                    put(file, at, &0u32.to_ne_bytes());
                },
                "damaged: number of PT_DYNAMIC segments is 0x0",
            ),
            (
                |file| {
                    let at = header(file, PT_LOAD) + 40;
                    put(file, at, &(MAX_SPAN + 1).to_ne_bytes());
                },
                "damaged: length of a segment in memory is 0x40000001",
            ),
            (
                |file| {
                    let at = header(file, PT_LOAD) + 40;
                    put(file, at, &0u64.to_ne_bytes());
                },
                "damaged: length of a segment in the file is 0x",
            ),
        ];
        for (change, expected) in wrong {
            let line = line(change);
            assert!(line.starts_with(expected), "{line}, not {expected}");
        }
    }

    #[test]
    fn names_the_machine() {
        let other = if HOST == Machine(183) { Machine(62) } else { Machine(183) };
        let text = line(|file| put(file, 18, &other.0.to_ne_bytes()));
        assert_eq!(text, format!("made for {other}, this host is {HOST}"));
        assert!(line(|file| put(file, 18, &1000u16.to_ne_bytes())).starts_with("made for machine 1000, "));
    }

    #[test]
    fn overflows_nothing() {
        let library = library();
        let header_fields = [(32, 8), (54, 2), (56, 2)].into_iter();
        let count = usize::from(read_u16(&library, 56).unwrap());
        let segment_fields = (64..64 + 56 * count).step_by(8).map(|at| (at, 8));
        for (at, len) in header_fields.chain(segment_fields) {
            for value in [0xff, 0x7f] {
                // Fields that are not read may have any value.
                let mut damaged = library.clone();
                damaged[at..at + len].fill(value);
                let _ = check_elf(&damaged);
            }
        }
    }
}

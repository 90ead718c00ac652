//! Elf: whether a file is a whole, undamaged shared library for this machine, before it is mapped.
//!
//! The dynamic linker trusts what it maps. Behind the end of a truncated file waits SIGBUS; a damaged offset makes it
//! read or write memory of others, which ends one process and not the next. So everything that the linker follows is
//! read here first: the headers (System V ABI, ELF-64 object files, chapters 4 and 5) in this file, the tables behind
//! `PT_DYNAMIC` in [`dynamic`]. Sections are not looked at, the linker does not need them.
//!
//! Code and constants cannot be judged here. What they do to the process when they are loaded, the child process of
//! `probe` shows.

mod dynamic;

use std::fmt;

use crate::module::error::LoadError;

/// Length of the ELF-64 file header.
const HEADER_LEN: usize = 64;
/// Length of an ELF-64 program header.
const PROGRAM_HEADER_LEN: usize = 56;

const MAGIC: [u8; 4] = *b"\x7fELF";
/// `e_ident[EI_CLASS]`: ELFCLASS64.
const CLASS_64: u8 = 2;
/// `e_type`: ET_DYN.
const TYPE_SHARED: u16 = 3;
/// `p_type`.
const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const PT_TLS: u32 = 7;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PT_GNU_RELRO: u32 = 0x6474_e552;

/// `p_flags`.
const WRITABLE: u32 = 2;
const READABLE: u32 = 4;

/// The largest page of any machine, in bytes.
const MAX_PAGE: u64 = 64 << 10;
/// The most memory that a library spans, and that its thread-local variables take in each thread.
const MAX_SPAN: u64 = 1 << 30;
const MAX_TLS: u64 = 16 << 20;

/// `e_ident[EI_DATA]` of this host: ELFDATA2LSB or ELFDATA2MSB.
const HOST_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// What a file was made for: `e_machine` of the ELF header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(pub u16);

impl Machine {
    /// This host's, where it is known; elsewhere the linker alone judges.
    const HOST: Option<Machine> = if cfg!(target_arch = "x86_64") {
        Some(Machine(62))
    } else if cfg!(target_arch = "aarch64") {
        Some(Machine(183))
    } else if cfg!(target_arch = "riscv64") {
        Some(Machine(243))
    } else if cfg!(target_arch = "loongarch64") {
        Some(Machine(258))
    } else if cfg!(target_arch = "powerpc64") {
        Some(Machine(21))
    } else if cfg!(target_arch = "s390x") {
        Some(Machine(22))
    } else {
        None
    };
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            3 => "x86",
            8 => "mips",
            20 => "powerpc",
            21 => "powerpc64",
            22 => "s390x",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            258 => "loongarch64",
            other => return write!(f, "machine {other}"),
        })
    }
}

/// `e_ident[EI_CLASS]` in words.
pub fn class_name(class: u8) -> String {
    match class {
        1 => "a 32-bit library".into(),
        other => format!("ELF class {other}"),
    }
}

/// `e_type` in words.
pub fn type_name(kind: u16) -> String {
    match kind {
        1 => "an object file".into(),
        2 => "an executable".into(),
        4 => "a core dump".into(),
        other => format!("ELF type {other}"),
    }
}

/// Checks that `file` is a shared library for this machine, that nothing which would be mapped is missing, and that
/// all that the linker follows stays inside of it. Returns how many bytes of address space it takes.
///
/// # Errors
/// `NotElf`, `WrongClass`, `WrongByteOrder`, `WrongMachine`, `NotShared`, `Truncated`, `Damaged`.
pub fn check_elf(file: &[u8]) -> Result<u64, LoadError> {
    if !file.starts_with(&MAGIC) {
        return Err(LoadError::NotElf);
    }
    // 16 bytes of identification: magic, class, byte order, and more that does not matter here.
    let &[class, order] = bytes(file, 4)?;
    if class != CLASS_64 {
        return Err(LoadError::WrongClass { found: class });
    }
    if order != HOST_ORDER {
        return Err(LoadError::WrongByteOrder { found: order });
    }
    let machine = Machine(read_u16(file, 18)?);
    if let Some(expected) = Machine::HOST.filter(|&host| machine != host) {
        return Err(LoadError::WrongMachine { found: machine, expected });
    }
    let kind = read_u16(file, 16)?;
    if kind != TYPE_SHARED {
        return Err(LoadError::NotShared { found: kind });
    }
    check_len(file, HEADER_LEN as u64)?;
    let (image, dynamic) = check_segments(file)?;
    dynamic::check(&image, dynamic)?;
    Ok(image.end())
}

/// One program header.
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

impl Segment {
    fn read(header: &[u8]) -> Result<Segment, LoadError> {
        Ok(Segment {
            kind: read_u32(header, 0)?,
            flags: read_u32(header, 4)?,
            offset: read_u64(header, 8)?,
            address: read_u64(header, 16)?,
            in_file: read_u64(header, 32)?,
            in_memory: read_u64(header, 40)?,
        })
    }

    /// Where it ends in memory.
    fn end(&self) -> u64 {
        self.address.saturating_add(self.in_memory)
    }
}

/// A library as it would be mapped. Addresses are relative to where that will be.
struct Image<'a> {
    file: &'a [u8],
    /// The `PT_LOAD` segments, in ascending order.
    loaded: Vec<Segment>,
}

impl<'a> Image<'a> {
    /// The bytes of the file at `address`; none if they are not all in one segment.
    fn bytes(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        let inside = |segment: &&Segment| holds(segment.address, segment.in_file, address, len);
        let segment = self.loaded.iter().find(inside)?;
        let start = (segment.offset + (address - segment.address)) as usize;
        self.file.get(start..start + len as usize)
    }

    /// Whether the range is in the memory of one segment.
    fn holds(&self, address: u64, len: u64) -> bool {
        self.loaded.iter().any(|segment| holds(segment.address, segment.in_memory, address, len))
    }

    /// Where the segment behind `address` starts; behind the last, where its last page ends.
    fn room_behind(&self, address: u64) -> u64 {
        let next = self.loaded.iter().map(|segment| segment.address).find(|&start| start > address);
        next.unwrap_or_else(|| self.end().next_multiple_of(MAX_PAGE))
    }

    /// The end of its last segment.
    fn end(&self) -> u64 {
        self.loaded.last().map_or(0, Segment::end)
    }
}

/// Whether a range lies in another.
fn holds(outer: u64, outer_len: u64, inner: u64, inner_len: u64) -> bool {
    inner
        .checked_sub(outer)
        .and_then(|start| start.checked_add(inner_len))
        .is_some_and(|end| end <= outer_len)
}

/// Also finds what `PT_DYNAMIC` holds.
fn check_segments(file: &[u8]) -> Result<(Image<'_>, &[u8]), LoadError> {
    let (table, len, count) = (read_u64(file, 32)?, read_u16(file, 54)?, read_u16(file, 56)?);
    if usize::from(len) != PROGRAM_HEADER_LEN {
        return Err(damaged("length of a program header", len.into()));
    }
    // At most 65,535 of 56 bytes each.
    let table_len = u64::from(count) * PROGRAM_HEADER_LEN as u64;
    let end = table.saturating_add(table_len);
    check_len(file, end)?;
    let headers = &file[table as usize..end as usize];
    let segments =
        headers.chunks_exact(PROGRAM_HEADER_LEN).map(Segment::read).collect::<Result<Vec<_>, _>>()?;
    let (loaded, others): (Vec<_>, Vec<_>) =
        segments.into_iter().filter(|segment| segment.kind != PT_NULL).partition(|s| s.kind == PT_LOAD);

    let mut previous = 0;
    for segment in &loaded {
        check_len(file, segment.offset.saturating_add(segment.in_file))?;
        check_loaded(segment, previous)?;
        previous = segment.end();
    }
    let image = Image { file, loaded };
    for segment in &others {
        check_inside(segment, &image)?;
        // The linker hands this address out to everyone who walks the loaded libraries.
        if segment.kind == PT_PHDR && image.bytes(segment.address, table_len) != Some(headers) {
            return Err(damaged("address of PT_PHDR", segment.address));
        }
    }
    let mut dynamic = others.iter().filter(|segment| segment.kind == PT_DYNAMIC);
    match (dynamic.next(), dynamic.count()) {
        (Some(segment), 0) => {
            let bytes = image.bytes(segment.address, segment.in_memory);
            let bytes = bytes.ok_or(damaged("address of PT_DYNAMIC", segment.address))?;
            Ok((image, bytes))
        }
        (None, _) => Err(damaged("number of PT_DYNAMIC segments", 0)),
        (_, more) => Err(damaged("number of PT_DYNAMIC segments", more as u64 + 1)),
    }
}

/// Checks a segment that is mapped, behind one that ends at `previous`.
fn check_loaded(segment: &Segment, previous: u64) -> Result<(), LoadError> {
    if segment.address < previous {
        return Err(damaged("address of a segment", segment.address));
    }
    if segment.in_file > segment.in_memory {
        return Err(damaged("length of a segment in the file", segment.in_file));
    }
    if segment.end() > MAX_SPAN {
        return Err(damaged("length of a segment in memory", segment.in_memory));
    }
    // What is not in the file is there to be written to.
    let needed = if segment.in_memory > segment.in_file { READABLE | WRITABLE } else { READABLE };
    if segment.flags & needed != needed {
        return Err(damaged("flags of a segment", segment.flags.into()));
    }
    Ok(())
}

/// Checks that a segment which is not mapped by itself lies in one that is.
fn check_inside(segment: &Segment, image: &Image<'_>) -> Result<(), LoadError> {
    let len = match segment.kind {
        PT_GNU_STACK => return Ok(()),
        // What is behind it is allocated for each thread.
        PT_TLS if segment.in_file <= segment.in_memory && segment.in_memory <= MAX_TLS => segment.in_file,
        PT_TLS => return Err(damaged("length of PT_TLS", segment.in_memory)),
        // lld rounds its length up to a page.
        PT_GNU_RELRO if segment.end() <= image.room_behind(segment.address) => 1,
        _ => segment.in_memory,
    };
    if len == 0 || image.holds(segment.address, len) {
        Ok(())
    } else {
        Err(damaged("address of a segment", segment.address))
    }
}

fn damaged(what: &'static str, value: u64) -> LoadError {
    LoadError::Damaged { what, value }
}

fn check_len(file: &[u8], needed: u64) -> Result<(), LoadError> {
    let len = file.len() as u64;
    if needed <= len { Ok(()) } else { Err(LoadError::Truncated { needed, len }) }
}

/// The `N` bytes at `offset`.
fn bytes<const N: usize>(file: &[u8], offset: usize) -> Result<&[u8; N], LoadError> {
    let rest = file.get(offset..).unwrap_or_default();
    rest.first_chunk().ok_or(LoadError::Truncated { needed: (offset + N) as u64, len: file.len() as u64 })
}

// In the byte order of this host: others are refused before anything but the machine is read.

fn read_u16(file: &[u8], offset: usize) -> Result<u16, LoadError> {
    bytes(file, offset).map(|&bytes| u16::from_ne_bytes(bytes))
}

fn read_u32(file: &[u8], offset: usize) -> Result<u32, LoadError> {
    bytes(file, offset).map(|&bytes| u32::from_ne_bytes(bytes))
}

fn read_u64(file: &[u8], offset: usize) -> Result<u64, LoadError> {
    bytes(file, offset).map(|&bytes| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HOST: Machine = Machine::HOST.unwrap();

    /// A real library: what this program is linked with. It has tables of all kinds.
    pub(super) fn library() -> Vec<u8> {
        fs::read(linked_libraries().find(|path| path.contains("/libc.so")).unwrap()).unwrap()
    }

    fn linked_libraries() -> impl Iterator<Item = String> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut files: Vec<_> = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        files.retain(|file| file.starts_with('/'));
        files.dedup();
        files.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Where a program header of this kind starts.
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
        let segments = Image { file: &library, loaded: check_segments(&library).unwrap().0.loaded };
        let mapped = segments.loaded.iter().map(|segment| segment.offset + segment.in_file).max().unwrap();
        for len in (0..1000).chain((1000..mapped).step_by(7919)).chain([mapped - 1]) {
            let error = check_elf(&library[..len as usize]).unwrap_err();
            match error {
                LoadError::NotElf => assert!(len < 4, "{len}"),
                LoadError::Truncated { needed, len: found } => {
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
        let wrong: [(Change, &str); 12] = [
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
                    put(file, at, &PT_NULL.to_ne_bytes());
                },
                "damaged: number of PT_DYNAMIC segments is 0x0",
            ),
            (
                |file| {
                    let at = header(file, PT_TLS) + 40;
                    put(file, at, &(MAX_TLS + 1).to_ne_bytes());
                },
                "damaged: length of PT_TLS is 0x1000001",
            ),
            (
                |file| {
                    let at = header(file, PT_LOAD) + 4;
                    put(file, at, &1u32.to_ne_bytes());
                },
                "damaged: flags of a segment is 0x1",
            ),
            (
                |file| {
                    let at = header(file, PT_PHDR) + 16;
                    put(file, at, &8u64.to_ne_bytes());
                },
                "damaged: address of PT_PHDR is 0x8",
            ),
        ];
        for (change, expected) in wrong {
            assert_eq!(line(change), expected);
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
                // Fields that nobody reads may be anything.
                let mut damaged = library.clone();
                damaged[at..at + len].fill(value);
                let _ = check_elf(&damaged);
            }
        }
    }
}

//! Elf: whether a file is a whole shared library for this machine, before it is mapped.
//!
//! The dynamic linker trusts what it maps: behind the end of a truncated file waits SIGBUS. So the header and the
//! program headers of the ELF-64 object file format (System V ABI, chapters 4 and 5) are read here first. Sections
//! are not looked at; the linker does not need them, and a truncated file that lost nothing else loads.
//!
//! What lies inside the segments is not judged here: that is what the child process of `probe` is for.

use std::fmt;

use super::LoadError;

/// Length of the ELF-64 file header.
const HEADER_LEN: usize = 64;
/// Length of an ELF-64 program header.
const PROGRAM_HEADER_LEN: usize = 56;

const MAGIC: [u8; 4] = *b"\x7fELF";
/// `e_ident[EI_CLASS]`: ELFCLASS64.
const CLASS_64: u8 = 2;
/// `e_type`: ET_DYN.
const TYPE_SHARED: u16 = 3;
/// `p_type`: PT_LOAD.
const SEGMENT_LOAD: u32 = 1;
/// `p_type`: PT_DYNAMIC.
const SEGMENT_DYNAMIC: u32 = 2;

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
pub(super) fn class_name(class: u8) -> String {
    match class {
        1 => "a 32-bit library".into(),
        other => format!("ELF class {other}"),
    }
}

/// `e_type` in words.
pub(super) fn type_name(kind: u16) -> String {
    match kind {
        1 => "an object file".into(),
        2 => "an executable".into(),
        4 => "a core dump".into(),
        other => format!("ELF type {other}"),
    }
}

/// Checks that `file` is a shared library for this machine and that nothing which would be mapped is missing.
///
/// # Errors
/// `NotElf`, `WrongClass`, `WrongByteOrder`, `WrongMachine`, `NotShared`, `Truncated`, `ProgramHeaders`.
pub fn check_elf(file: &[u8]) -> Result<(), LoadError> {
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
    check_segments(file)
}

fn check_segments(file: &[u8]) -> Result<(), LoadError> {
    let (offset, len, count) = (read_u64(file, 32)?, read_u16(file, 54)?, read_u16(file, 56)?);
    if usize::from(len) != PROGRAM_HEADER_LEN {
        return Err(LoadError::ProgramHeaders { what: "length", value: len.into() });
    }
    // At most 65,535 of 56 bytes each.
    let end = offset.saturating_add(u64::from(count) * PROGRAM_HEADER_LEN as u64);
    check_len(file, end)?;
    let (mut loaded, mut dynamic) = (0u64, 0u64);
    let table = &file[offset as usize..end as usize];
    for header in table.chunks_exact(PROGRAM_HEADER_LEN) {
        let (kind, offset, in_file, in_memory) =
            (read_u32(header, 0)?, read_u64(header, 8)?, read_u64(header, 32)?, read_u64(header, 40)?);
        match kind {
            SEGMENT_LOAD => loaded += 1,
            SEGMENT_DYNAMIC => dynamic += 1,
            _ => continue,
        }
        check_len(file, offset.saturating_add(in_file))?;
        if in_file > in_memory {
            return Err(LoadError::ProgramHeaders { what: "p_filesz over p_memsz", value: in_file });
        }
    }
    match (loaded, dynamic) {
        (0, _) => Err(LoadError::ProgramHeaders { what: "PT_LOAD count", value: loaded }),
        (_, 1) => Ok(()),
        _ => Err(LoadError::ProgramHeaders { what: "PT_DYNAMIC count", value: dynamic }),
    }
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
    use super::*;

    const HOST: Machine = Machine::HOST.unwrap();

    /// A file header, a PT_LOAD segment over all 300 bytes, and a PT_DYNAMIC one over the last 100.
    fn library() -> Vec<u8> {
        let mut file = vec![0; 300];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', CLASS_64, HOST_ORDER, 1]);
        put(&mut file, 16, &TYPE_SHARED.to_ne_bytes());
        put(&mut file, 18, &HOST.0.to_ne_bytes());
        put(&mut file, 32, &64u64.to_ne_bytes());
        put(&mut file, 54, &56u16.to_ne_bytes());
        put(&mut file, 56, &2u16.to_ne_bytes());
        for (at, kind, offset, len) in [(64, SEGMENT_LOAD, 0u64, 300u64), (120, SEGMENT_DYNAMIC, 200, 100)] {
            put(&mut file, at, &kind.to_ne_bytes());
            put(&mut file, at + 8, &offset.to_ne_bytes());
            put(&mut file, at + 32, &len.to_ne_bytes());
            put(&mut file, at + 40, &len.to_ne_bytes());
        }
        file
    }

    fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn line(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut file = library();
        change(&mut file);
        check_elf(&file).map_or_else(|error| error.to_string(), |()| "accepted".into())
    }

    #[test]
    fn accepts_a_library() {
        assert_eq!(line(|_| {}), "accepted");
        assert_eq!(line(|file| file.extend([0; 10])), "accepted");
        let own = std::fs::read("/proc/self/exe").unwrap();
        check_elf(&own).unwrap();
    }

    #[test]
    fn refuses_every_truncation() {
        for len in 0..300 {
            let error = check_elf(&library()[..len]).unwrap_err();
            match error {
                LoadError::NotElf => assert!(len < 4, "{len}"),
                LoadError::Truncated { needed, len: found } => {
                    assert!(needed > found && found == len as u64 && len >= 4, "{len}: {error}");
                }
                _ => panic!("{len}: {error}"),
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        type Change = fn(&mut Vec<u8>);
        let wrong: [(Change, &str); 9] = [
            (|file| file[0] = b'#', "not a shared library (no ELF header)"),
            (|file| file[4] = 1, "a 32-bit library, this host is 64-bit"),
            (|file| file[4] = 9, "ELF class 9, this host is 64-bit"),
            (|file| put(file, 16, &1u16.to_ne_bytes()), "an object file, not a shared library"),
            (|file| put(file, 16, &2u16.to_ne_bytes()), "an executable, not a shared library"),
            (|file| put(file, 54, &57u16.to_ne_bytes()), "damaged: its program headers have length 57"),
            (|file| put(file, 64, &7u32.to_ne_bytes()), "damaged: its program headers have PT_LOAD count 0"),
            (
                |file| put(file, 120, &7u32.to_ne_bytes()),
                "damaged: its program headers have PT_DYNAMIC count 0",
            ),
            (
                |file| put(file, 104, &9u64.to_ne_bytes()),
                "damaged: its program headers have p_filesz over p_memsz 300",
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
        let text = line(|file| file[5] = 3 - HOST_ORDER);
        assert_eq!(text, "made for a machine of the other byte order");
        assert_eq!(line(|file| file[5] = 7), "damaged: byte order 7");
    }

    #[test]
    fn overflows_nothing() {
        for (at, len) in [(32, 8), (56, 2), (72, 8), (96, 8), (128, 8), (152, 8)] {
            let error = line(|file| file[at..at + len].fill(0xff));
            assert!(error.starts_with("truncated: "), "{at}: {error}");
        }
    }
}

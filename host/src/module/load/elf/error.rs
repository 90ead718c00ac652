//! Reasons to refuse a file before it is mapped.

use std::fmt;

use thiserror::Error;

/// Why a file is not a whole shared library for this machine.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfError {
    /// The file has no ELF header.
    #[error("not a shared library (no ELF header)")]
    NotElf,
    /// The file has another word size.
    #[error("{}, this host is 64-bit", class_name(*found))]
    WrongClass {
        /// `e_ident[EI_CLASS]`.
        found: u8,
    },
    /// The file has the other byte order, or is damaged.
    #[error("{}", describe_byte_order(*found))]
    WrongByteOrder {
        /// `e_ident[EI_DATA]`.
        found: u8,
    },
    /// The file is for another machine.
    #[error("made for {found}, this host is {expected}")]
    WrongMachine {
        /// `e_machine`.
        found: Machine,
        /// This host's machine.
        expected: Machine,
    },
    /// The file is an executable, an object file or a core dump.
    #[error("{}, not a shared library", type_name(*found))]
    NotShared {
        /// `e_type`.
        found: u16,
    },
    /// The end of the file is missing.
    #[error("truncated: {len} bytes of at least {needed}")]
    Truncated {
        /// End of the last segment according to the headers, in bytes; a lower bound.
        needed: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// A number that the dynamic linker would trust is wrong.
    #[error("damaged: {what} is {value:#x}")]
    Damaged {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

/// The machine that a file was made for: `e_machine` of the ELF header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(pub u16);

impl Machine {
    /// This host's machine, if it is in the list; otherwise only the dynamic linker checks it.
    pub const HOST: Option<Machine> = if cfg!(target_arch = "x86_64") {
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

fn class_name(class: u8) -> String {
    match class {
        1 => "a 32-bit library".into(),
        other => format!("ELF class {other}"),
    }
}

fn describe_byte_order(order: u8) -> String {
    match order {
        1 | 2 => "made for a machine of the other byte order".into(),
        other => format!("damaged: byte order is {other:#x}"),
    }
}

fn type_name(kind: u16) -> String {
    match kind {
        1 => "an object file".into(),
        2 => "an executable".into(),
        4 => "a core dump".into(),
        other => format!("ELF type {other}"),
    }
}

//! The data that the host reads first: plain C, so that it can report what a file is even if nothing else matches.

use std::os::raw::c_char;

/// The symbol under which a module exports its [`Preflight`].
pub const PREFLIGHT_SYMBOL: &str = "remuxd_module_preflight";

/// The first eight bytes of a [`Preflight`]: `remuxd`, then two bytes that are not text.
pub const MAGIC: [u8; 8] = *b"remuxd\xff\x01";

/// The major version of this ABI. Host and module must have the same.
pub const ABI_MAJOR: u16 = 1;

/// The minor version of this ABI. Minor versions only append, so any two of them are compatible.
pub const ABI_MINOR: u16 = 5;

/// The compiler that built this library, as `rustc --version` prints it.
pub const RUSTC: &str = env!("REMUXD_RUSTC");

/// The preflight data of a module. Later versions append fields and let `struct_size` grow; none ever moves.
#[repr(C)]
pub struct Preflight {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The size of the struct in the module, in bytes.
    pub struct_size: u32,
    /// The module's [`ABI_MAJOR`].
    pub abi_major: u16,
    /// The module's [`ABI_MINOR`].
    pub abi_minor: u16,
    /// 1 if the module was built with `panic = "abort"`: its panics would end the host's process.
    pub panic_abort: u8,
    /// 0.
    pub reserved: [u8; 7],
    /// The compiler's version, a C string that lives as long as the library. Never null.
    pub rustc: *const c_char,
}

// SAFETY: immutable data; the pointer is to a string constant.
unsafe impl Sync for Preflight {}

impl Preflight {
    /// Returns the data of a module built with this crate. `panic_abort` must be evaluated in the author's
    /// crate.
    pub const fn new(panic_abort: bool) -> Preflight {
        Preflight {
            magic: MAGIC,
            struct_size: std::mem::size_of::<Preflight>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            panic_abort: panic_abort as u8,
            reserved: [0; 7],
            rustc: concat!(env!("REMUXD_RUSTC"), "\0").as_ptr().cast(),
        }
    }
}

//! Preflight: the plain-C data that a module exports, read before anything else of it is trusted.

use std::ffi::CStr;

use libloading::os::unix::Library;
use remuxd_plugin_api::abi::{ABI_MAJOR, MAGIC, PREFLIGHT_SYMBOL, Preflight};

use serde::{Deserialize, Serialize};

use crate::module::error::LoadError;
use crate::module::text::one_line;

/// How a module was built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Build {
    /// The version of the interface that it was built for: major, minor.
    pub abi: (u16, u16),
    /// Its compiler, as `rustc --version` names it.
    pub rustc: String,
}

/// Reads and judges the preflight data of a mapped library.
///
/// # Errors
/// `NotAModule`, `AbiMajor`, `PanicAbort`.
pub fn preflight(image: &Library) -> Result<Build, LoadError> {
    // SAFETY: a symbol's address is a pointer.
    let symbol =
        unsafe { image.get::<*const Preflight>(PREFLIGHT_SYMBOL) }.map_err(|_| LoadError::NotAModule)?;
    if symbol.is_null() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: a module's preflight symbol names data that lives as long as the library.
    unsafe { read_preflight(*symbol) }
}

/// # Safety
/// `preflight` points to as many bytes as its own `struct_size` says, and to 12 at least.
unsafe fn read_preflight(preflight: *const Preflight) -> Result<Build, LoadError> {
    // SAFETY: these two are the first 12 bytes.
    let (magic, size) = unsafe { ((*preflight).magic, (*preflight).struct_size) };
    if magic != MAGIC || (size as usize) < size_of::<Preflight>() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: the struct has the magic of a module and at least the fields of `Preflight`.
    let preflight = unsafe { &*preflight };
    if preflight.abi_major != ABI_MAJOR {
        return Err(LoadError::AbiMajor { module: preflight.abi_major, host: ABI_MAJOR });
    }
    if preflight.panic_abort != 0 {
        return Err(LoadError::PanicAbort);
    }
    if preflight.rustc.is_null() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: a C string that lives as long as the library.
    let rustc = unsafe { CStr::from_ptr(preflight.rustc) };
    let rustc = one_line(&rustc.to_string_lossy());
    Ok(Build { abi: (preflight.abi_major, preflight.abi_minor), rustc })
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::abi::ABI_MINOR;

    use super::*;

    #[test]
    fn judges_preflight_data() {
        let preflight = |change: fn(&mut Preflight)| {
            let mut preflight = Preflight::new(false);
            change(&mut preflight);
            // SAFETY: a whole struct, that is alive.
            unsafe { read_preflight(&raw const preflight) }.map(|build| build.abi)
        };
        assert!(matches!(preflight(|_| {}), Ok((ABI_MAJOR, ABI_MINOR))));
        assert!(matches!(preflight(|data| data.abi_minor = 9), Ok((ABI_MAJOR, 9))));
        assert!(preflight(|data| data.struct_size += 8).is_ok());
        assert!(matches!(preflight(|data| data.magic[7] = 0), Err(LoadError::NotAModule)));
        assert!(matches!(preflight(|data| data.struct_size = 12), Err(LoadError::NotAModule)));
        assert!(matches!(
            preflight(|data| data.abi_major = 2),
            Err(LoadError::AbiMajor { module: 2, host: 1 })
        ));
        assert!(matches!(preflight(|data| data.panic_abort = 1), Err(LoadError::PanicAbort)));
    }
}

//! Byte buffers that cross the module boundary without a copy.

use std::fmt;
use std::ops::{Deref, RangeBounds};

/// Immutable bytes that host and modules share by counting references.
#[derive(Clone, Default)]
pub struct SharedBytes(bytes::Bytes);

impl SharedBytes {
    /// Wraps bytes that live for ever.
    pub fn from_static(bytes: &'static [u8]) -> SharedBytes {
        SharedBytes(bytes::Bytes::from_static(bytes))
    }

    /// A part of these bytes, shared. Bounds past the end panic.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedBytes {
        SharedBytes(self.0.slice(range))
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> SharedBytes {
        SharedBytes(bytes.into())
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

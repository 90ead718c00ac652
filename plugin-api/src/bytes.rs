//! Byte buffers that cross the module boundary without a copy.
//!
//! A [`SharedBytes`] is a range of memory with an owner, and carries the functions that count the owner's references. It can be
//! sliced, cloned and dropped on any thread, in the host or in any module: the code that created the owner always does
//! the counting. The host keeps a module's library mapped while bytes created in it are alive.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr;
use std::slice;
use std::sync::Arc;

use abi_stable::StableAbi;
use bytes::Bytes;

use crate::abi::catch::catch;

/// Immutable, reference-counted bytes that host and modules share.
///
/// Cloning and slicing count a reference and copy nothing. `Vec<u8>` and [`bytes::Bytes`] convert without a copy.
#[repr(C)]
#[derive(StableAbi)]
pub struct SharedBytes {
    ptr: *const u8,
    len: usize,
    /// The argument of the functions of `vtable`; null for static bytes.
    owner: *const (),
    vtable: &'static Vtable,
}

/// The functions that count an owner's references. They belong to the library that created the owner and do not unwind.
#[repr(C)]
#[derive(StableAbi)]
pub(crate) struct Vtable {
    /// Adds a reference.
    retain: unsafe extern "C" fn(*const ()),
    /// Removes a reference, and frees the owner with the last one.
    release: unsafe extern "C" fn(*const ()),
    reserved: [usize; 2],
}

// SAFETY: the bytes are immutable while a reference is counted, and every owner is `Send + Sync` with an atomic count.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

// Statics, not constants: an address identifies the owner's type, and this library as its creator.
static STATIC: Vtable = Vtable { retain: keep, release: keep, reserved: [0; 2] };
static VEC: Vtable = Vtable { retain: retain::<Vec<u8>>, release: release::<Vec<u8>>, reserved: [0; 2] };
static BYTES: Vtable = Vtable { retain: retain::<Bytes>, release: release::<Bytes>, reserved: [0; 2] };

unsafe extern "C" fn keep(_: *const ()) {}

unsafe extern "C" fn retain<T>(owner: *const ()) {
    // SAFETY: `owner` came from `Arc::<T>::into_raw`, and the caller holds a reference.
    unsafe { Arc::increment_strong_count(owner.cast::<T>()) }
}

unsafe extern "C" fn release<T>(owner: *const ()) {
    // The owner of a `Bytes` can be of a foreign type whose `Drop` panics.
    let _ = catch(|| {
        // SAFETY: `owner` came from `Arc::<T>::into_raw`, and the caller gives up the reference that it holds.
        unsafe { Arc::decrement_strong_count(owner.cast::<T>()) }
    });
}

impl SharedBytes {
    /// Wraps static bytes.
    pub fn from_static(bytes: &'static [u8]) -> SharedBytes {
        SharedBytes { ptr: bytes.as_ptr(), len: bytes.len(), owner: ptr::null(), vtable: &STATIC }
    }

    fn owned<T: AsRef<[u8]>>(owner: T, vtable: &'static Vtable) -> SharedBytes {
        let owner = Arc::new(owner);
        let bytes = (*owner).as_ref();
        let (ptr, len) = (bytes.as_ptr(), bytes.len());
        SharedBytes { ptr, len, owner: Arc::into_raw(owner).cast(), vtable }
    }

    /// Returns a part of these bytes, shared. Panics if a bound is past the end.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedBytes {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len,
        };
        let part = &self[start..end];
        self.share(part.as_ptr(), part.len())
    }

    fn share(&self, ptr: *const u8, len: usize) -> SharedBytes {
        // SAFETY: `self` holds a reference of `owner`, which `vtable` belongs to.
        unsafe { (self.vtable.retain)(self.owner) };
        SharedBytes { ptr, len, owner: self.owner, vtable: self.vtable }
    }

    /// Returns the bytes as [`bytes::Bytes`], shared: a slice of the original if they came from a `Bytes` of the same library, a
    /// wrapper otherwise.
    pub fn into_bytes(self) -> Bytes {
        match self.local() {
            Some(bytes) => bytes,
            None => Bytes::from_owner(self),
        }
    }

    /// Returns the bytes as [`bytes::Bytes`] if this library created them, so that freeing them calls no other library.
    #[doc(hidden)]
    pub fn local(&self) -> Option<Bytes> {
        if ptr::eq(self.vtable, &BYTES) {
            // SAFETY: an owner with this vtable came from `Arc::<Bytes>::into_raw`, and `self` holds a reference.
            let bytes = unsafe { &*self.owner.cast::<Bytes>() };
            Some(bytes.slice_ref(self))
        } else if ptr::eq(self.vtable, &STATIC) {
            // SAFETY: this library's bytes with this vtable came from a `&'static [u8]`.
            Some(Bytes::from_static(unsafe { slice::from_raw_parts(self.ptr, self.len) }))
        } else {
            None
        }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> SharedBytes {
        self.share(self.ptr, self.len)
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        // SAFETY: `self` holds a reference of `owner`, which `vtable` belongs to, and gives it up.
        unsafe { (self.vtable.release)(self.owner) }
    }
}

impl Default for SharedBytes {
    fn default() -> SharedBytes {
        SharedBytes::from_static(&[])
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> SharedBytes {
        SharedBytes::owned(bytes, &VEC)
    }
}

impl From<Bytes> for SharedBytes {
    fn from(bytes: Bytes) -> SharedBytes {
        SharedBytes::owned(bytes, &BYTES)
    }
}

impl From<SharedBytes> for Bytes {
    fn from(bytes: SharedBytes) -> Bytes {
        bytes.into_bytes()
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is readable while the reference is held.
        unsafe { slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &SharedBytes) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Counts its drops.
    struct Counted(Vec<u8>, Arc<AtomicUsize>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted(bytes: &[u8]) -> (SharedBytes, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        let bytes = Bytes::from_owner(Counted(bytes.to_vec(), drops.clone()));
        (bytes.into(), drops)
    }

    /// The functions of another library, which are at other addresses. Statics, as in each library: Miri reports what is leaked.
    static FOREIGN_STATIC: Vtable = Vtable { retain: keep, release: keep, reserved: [0; 2] };
    static FOREIGN_VEC: Vtable =
        Vtable { retain: retain::<Vec<u8>>, release: release::<Vec<u8>>, reserved: [0; 2] };
    static FOREIGN_BYTES: Vtable =
        Vtable { retain: retain::<Bytes>, release: release::<Bytes>, reserved: [0; 2] };

    /// Returns the bytes as if another library had created them.
    fn foreign(mut bytes: SharedBytes) -> SharedBytes {
        bytes.vtable = match bytes.vtable {
            own if ptr::eq(own, &STATIC) => &FOREIGN_STATIC,
            own if ptr::eq(own, &VEC) => &FOREIGN_VEC,
            _ => &FOREIGN_BYTES,
        };
        bytes
    }

    #[test]
    fn frees_the_owner_once_with_the_last_reference() {
        let (bytes, drops) = counted(b"0123456789");
        let part = bytes.slice(2..=4);
        let copies: Vec<_> = (0..4).map(|_| part.clone()).collect();
        drop(bytes);
        thread::scope(|scope| {
            for copy in copies {
                scope.spawn(move || assert_eq!(&*copy.clone(), b"234"));
            }
        });
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(part);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn frees_the_owner_once_through_bytes() {
        for wrap in [|bytes| bytes, foreign] {
            let (whole, drops) = counted(b"0123456789");
            let bytes = wrap(whole.slice(3..)).into_bytes();
            drop(whole);
            assert_eq!(bytes, &b"3456789"[..]);
            let part = bytes.slice(1..2);
            drop(bytes);
            assert_eq!(drops.load(Ordering::SeqCst), 0);
            drop(part);
            assert_eq!(drops.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn slices_as_a_slice_does() {
        let bytes = SharedBytes::from(vec![0, 1, 2, 3]);
        assert_eq!(*bytes.slice(..), [0, 1, 2, 3]);
        assert_eq!(*bytes.slice(1..3), [1, 2]);
        assert_eq!(*bytes.slice(..=1), [0, 1]);
        assert_eq!(*bytes.slice(4..), []);
        assert_eq!(*bytes.slice((Bound::Excluded(0), Bound::Unbounded)), [1, 2, 3]);
        assert_eq!(*bytes.slice(1..).slice(1..2), [2]);
    }

    #[test]
    fn panics_when_a_slice_is_out_of_bounds() {
        let bytes = SharedBytes::from(vec![0, 1, 2, 3]);
        for range in [(0, 5), (3, 2), (5, 5), (usize::MAX, usize::MAX)] {
            assert!(catch(|| bytes.slice(range.0..range.1)).is_err(), "{range:?}");
        }
        assert!(catch(|| bytes.slice(0..=usize::MAX)).is_err());
    }

    #[test]
    fn conversions_keep_the_address() {
        let vec = vec![1, 2, 3];
        let at = vec.as_ptr();
        assert_eq!(SharedBytes::from(vec).clone().slice(1..).into_bytes().as_ptr(), at.wrapping_add(1));

        let bytes = Bytes::from(vec![1, 2, 3]);
        let at = bytes.as_ptr();
        for wrap in [|bytes| bytes, foreign] {
            let round = wrap(SharedBytes::from(bytes.clone()).slice(1..)).into_bytes();
            assert_eq!(round.as_ptr(), at.wrapping_add(1));
        }

        let text = b"static";
        assert_eq!(SharedBytes::from_static(text).into_bytes().as_ptr(), text.as_ptr());
    }

    #[test]
    fn distinguishes_its_own_bytes_from_foreign_ones() {
        let bytes = SharedBytes::from(Bytes::from(vec![1, 2, 3]));
        assert!(bytes.local().is_some());
        assert!(SharedBytes::default().local().is_some());
        assert!(foreign(bytes).local().is_none());
        assert!(foreign(SharedBytes::from_static(b"x")).local().is_none());
    }

    #[test]
    fn contains_an_owner_that_panics_when_dropped() {
        struct Panics;
        impl AsRef<[u8]> for Panics {
            fn as_ref(&self) -> &[u8] {
                b"x"
            }
        }
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("expected in this test");
            }
        }
        drop(SharedBytes::from(Bytes::from_owner(Panics)));
    }
}

//! Locks of what the models of `stream` check.
//!
//! They are parking_lot's. In unit tests with the feature `model` they belong to Shuttle, which runs the threads of a model one
//! at a time and chooses at each lock which of them continues. `host/src/stream/model.rs` has the models. In other unit tests they are
//! counted.

#[cfg(not(test))]
pub use parking_lot::{Mutex, MutexGuard};

#[cfg(all(test, not(feature = "model")))]
pub use counted::{Mutex, MutexGuard, locks_of_thread};

#[cfg(all(test, feature = "model"))]
pub use modelled::{Mutex, MutexGuard};

/// parking_lot's locks, counted.
#[cfg(all(test, not(feature = "model")))]
mod counted {
    use std::cell::Cell;

    pub use parking_lot::MutexGuard;

    thread_local! {
        static LOCKS: Cell<u64> = const { Cell::new(0) };
    }

    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(parking_lot::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            LOCKS.set(LOCKS.get() + 1);
            self.0.lock()
        }

        pub fn is_locked(&self) -> bool {
            self.0.is_locked()
        }
    }

    /// Number of times that this thread has taken such a lock.
    pub fn locks_of_thread() -> u64 {
        LOCKS.get()
    }
}

/// Shuttle's locks with the interface of parking_lot's.
#[cfg(all(test, feature = "model"))]
mod modelled {
    pub use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }

        pub fn is_locked(&self) -> bool {
            self.0.try_lock().is_err()
        }
    }
}

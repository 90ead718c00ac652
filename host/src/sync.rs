//! Locks of what the models of `stream` check.
//!
//! They are parking_lot's. In unit tests with the feature `model` they belong to Shuttle, which runs the threads of a model one
//! at a time and chooses at each lock which of them continues. `host/src/stream/model.rs` has the models.

#[cfg(not(all(test, feature = "model")))]
pub use parking_lot::{Mutex, MutexGuard};

#[cfg(all(test, feature = "model"))]
pub use modelled::{Mutex, MutexGuard};

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

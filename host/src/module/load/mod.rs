//! Loading: from a file to a module.
//!
//! [`stage`] reads, checks and copies the file, [`probe`] tries the module in a child process, [`loader`] maps it. The
//! host's unsafe code is here and in `process`.

pub mod c_abi;
pub mod child;
pub mod elf;
pub mod in_process;
pub mod layout;
pub mod library;
pub mod loader;
pub mod preflight;
pub mod probe;
pub mod self_test;
pub mod stage;
pub mod surroundings;

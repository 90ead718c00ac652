//! Loading: from a file to a module.
//!
//! The way of a file into the host: [`stage`] reads, checks and copies it, [`probe`] loads it and plays the self-test to it
//! in a child process, [`loader`] maps it. Here is the host's unsafe code, beside that of `process`.

pub mod c_abi;
pub mod child;
pub mod elf;
pub mod layout;
pub mod linked;
pub mod loader;
pub mod probe;
pub mod self_test;
pub mod stage;
pub mod surroundings;

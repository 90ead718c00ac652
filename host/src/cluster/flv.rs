//! FLV over HTTP: streams that servers send as unending files.

mod client;
mod reader;
#[cfg(test)]
mod tests;

pub(super) use client::{FlvClient, FlvSettings};
pub use reader::FlvError;
#[cfg(fuzzing)]
pub use reader::FlvReader;

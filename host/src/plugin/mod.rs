//! x
mod worker;
pub use worker::{CallWatch, Job, Pool, Task};

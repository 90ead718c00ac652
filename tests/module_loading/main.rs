//! Wrong and damaged modules are refused, and remuxers that fail at run time are ended, each with one readable line. The
//! host, which is this process, continues.

#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod abi;
mod built;
mod c_modules;
mod conformance;
mod damage;
mod faults;
mod host;
mod refusals;
mod replacement;
mod sharing;

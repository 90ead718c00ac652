//! Modules that are wrong or damaged, and modules that fail while they run: each is refused or ended with one readable
//! line, and the host, which is this process, goes on.

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

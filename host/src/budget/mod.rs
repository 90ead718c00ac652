//! The memory budget: how much memory all peers together may make the host keep.
//!
//! Memory that the host keeps for a peer is a [`Charge`] on the [`Account`] of its connection, and counts until it is dropped. So
//! memory counts as long as anything keeps it: a ring, a batch that a slow viewer has not taken, a module. Each account
//! belongs to the [`Address`] of its peer, and all of them to the [`Budget`].
//!
//! One rule bounds them: **what a connection holds, what its address holds and what all hold make at most the limit
//! together**. A connection alone may hold a third of the limit, and an address half of it, whatever its number of
//! connections. Where others hold memory too, both may hold less: an address as much as is free, and a connection as much as
//! its address leaves of that. So the largest peer is the first whose charge fails, and a peer that holds little can hold
//! it until nearly nothing is free.
//!
//! New publishers and viewers are [admitted](Account::admit) below four fifths of the limit, so that they are refused before
//! a peer that was there before loses its connection.
//!
//! Used by all layers that keep memory for peers. Uses nothing: it knows no sockets, streams or messages.

mod account;
mod machine;

pub use account::{Account, Address, Budget, Charge, Kind, OverBudget, Usage};
pub use machine::machine_memory;

//! Limits of connections for each address, its part of the memory budget, and the rate of what it may send.
//!
//! An address is an IPv4 address or an IPv6 /64, which is what one subscriber gets (RFC 6177). Trusted proxies, which
//! connect for many clients, are not limited; if they send PROXY headers, the client's address counts instead. Where no
//! client is known, each connection of a proxy has memory as an address of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::budget::{self, Account, Budget};
use crate::conf::Limits;
use crate::policy::subscriber;

use super::receive_rate::ReceiveRate;

/// Number of addresses from which on those that are not in use are removed.
const MIN_SWEEP: usize = 1024;

/// The addresses that have connections or hold memory, or had a connection in this second.
#[derive(Debug)]
pub(super) struct Addresses {
    budget: Budget,
    started: Instant,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    addresses: HashMap<IpAddr, Address>,
    /// Number of addresses at which the table is swept.
    sweep_at: usize,
}

#[derive(Debug)]
struct Address {
    memory: budget::Address,
    /// The bucket, and the `limits.receive_rate` that it is for. Connections keep the one that they began with.
    receive_rate: (u32, Option<Arc<ReceiveRate>>),
    open: usize,
    /// The second of the newest connection, and the number of connections in it.
    second: u64,
    accepted: u32,
}

/// A connection of an address; counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct AddressSlot {
    addresses: Arc<Addresses>,
    address: IpAddr,
    account: Account,
    receive_rate: Option<Arc<ReceiveRate>>,
}

/// A limit that an address has reached. Culprit: peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressLimit {
    #[error("{0} connections of this address are open (limits.max_connections_per_address)")]
    Open(usize),
    #[error("{0} connections of this address came within a second (limits.accept_rate)")]
    Rate(u32),
}

impl Addresses {
    pub(super) fn new(budget: Budget) -> Arc<Addresses> {
        Arc::new(Addresses { budget, started: Instant::now(), table: Mutex::default() })
    }

    /// Counts a new connection, by the `limits` in force.
    ///
    /// # Errors
    /// The address has reached a limit.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
    ) -> Result<AddressSlot, AddressLimit> {
        self.enter_at(address, limits, self.started.elapsed().as_secs())
    }

    fn enter_at(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
        second: u64,
    ) -> Result<AddressSlot, AddressLimit> {
        let (max_open, max_rate) = (limits.max_connections_per_address, limits.accept_rate);
        let address = subscriber(address);
        let mut table = self.table.lock();
        table.sweep(second);
        let entry = table.entry(address, &self.budget);
        if entry.second != second {
            (entry.second, entry.accepted) = (second, 0);
        }
        if max_rate > 0 && entry.accepted >= max_rate {
            return Err(AddressLimit::Rate(max_rate));
        }
        entry.accepted += 1;
        if max_open > 0 && entry.open >= max_open {
            return Err(AddressLimit::Open(max_open));
        }
        entry.open += 1;
        if entry.receive_rate.0 != limits.receive_rate {
            entry.receive_rate = (limits.receive_rate, ReceiveRate::new(limits.receive_rate));
        }
        let (account, receive_rate) = (entry.memory.account(), entry.receive_rate.1.clone());
        Ok(AddressSlot { addresses: self.clone(), address, account, receive_rate })
    }

    /// Creates the account of a connection of a client behind a trusted proxy.
    pub(super) fn account_of(&self, client: IpAddr) -> Account {
        let mut table = self.table.lock();
        table.sweep(self.started.elapsed().as_secs());
        table.entry(subscriber(client), &self.budget).memory.account()
    }

    /// Creates the account of a connection of a trusted proxy.
    pub(super) fn account_of_proxy(&self) -> Account {
        self.budget.address().account()
    }
}

impl AddressSlot {
    /// The account of the connection.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The rate of what the address may send over HTTP; `None` if there is no limit.
    pub(super) fn receive_rate(&self) -> Option<&Arc<ReceiveRate>> {
        self.receive_rate.as_ref()
    }
}

impl Table {
    fn entry(&mut self, address: IpAddr, budget: &Budget) -> &mut Address {
        self.addresses.entry(address).or_insert_with(|| Address {
            memory: budget.address(),
            receive_rate: (0, None),
            open: 0,
            second: 0,
            accepted: 0,
        })
    }

    /// Removes the addresses without connections and memory whenever their number has doubled.
    fn sweep(&mut self, second: u64) {
        if self.addresses.len() >= self.sweep_at.max(MIN_SWEEP) {
            self.addresses.retain(|_, one| one.open > 0 || one.second == second || one.memory.is_in_use());
            self.sweep_at = self.addresses.len() * 2;
        }
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Some(address) = self.addresses.table.lock().addresses.get_mut(&self.address) {
            address.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Kind;
    use crate::conf::Config;

    fn limits(max_connections_per_address: usize, accept_rate: u32) -> Limits {
        Limits { max_connections_per_address, accept_rate, ..Config::default().limits }
    }

    fn addresses() -> Arc<Addresses> {
        Addresses::new(Budget::new(1200))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_limit_of_open_connections_of_its_own() {
        let (addresses, two) = (addresses(), limits(2, 0));
        let enter = |address: &str| addresses.enter_at(ip(address), &two, 0);
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap());
        assert_eq!(enter("::ffff:192.0.2.1").unwrap_err(), AddressLimit::Open(2));
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        let _third = enter("192.0.2.1").unwrap();
        let _network = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert_eq!(enter("2001:db8::ffff:0:0:3").unwrap_err(), AddressLimit::Open(2));
        let _neighbour = enter("2001:db8:0:1::1").unwrap();
        // Other limits hold for those who come after them.
        let lower = addresses.enter_at(ip("192.0.2.2"), &limits(1, 0), 0);
        assert_eq!(lower.unwrap_err(), AddressLimit::Open(1));
        let _more = addresses.enter_at(ip("192.0.2.1"), &limits(3, 0), 0).unwrap();
    }

    #[test]
    fn an_address_has_a_limit_of_connections_in_a_second() {
        let (addresses, two) = (addresses(), limits(0, 2));
        let rows = [(0, true), (0, true), (0, false), (1, true), (1, true), (1, false), (5, true)];
        for (second, is_accepted) in rows {
            assert_eq!(addresses.enter_at(ip("192.0.2.1"), &two, second).is_ok(), is_accepted, "{second}");
        }
    }

    #[test]
    fn connections_of_an_address_share_its_memory() {
        let (addresses, none) = (addresses(), limits(0, 0));
        let charge = |account: &Account| account.charge(Kind::Connections, 200).map(drop);
        let slot = |address: &str| addresses.enter(ip(address), &none).unwrap();
        let held = addresses.account_of(ip("2001:db8::1")).charge(Kind::Messages, 200).unwrap();
        // 200 of the connection, 400 of its address and 400 of all are within 1200, another 200 are not.
        let same = slot("2001:db8::2").account().charge(Kind::Connections, 200).unwrap();
        charge(slot("2001:db8::3").account()).unwrap_err();
        charge(slot("2001:db8:0:1::1").account()).unwrap();
        charge(&addresses.account_of_proxy()).unwrap();
        drop((held, same));
        charge(slot("2001:db8::3").account()).unwrap();
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let (addresses, one) = (addresses(), limits(1, 0));
        let account = addresses.account_of(ip("192.0.2.9"));
        let held = account.charge(Kind::Messages, 400).unwrap();
        drop(account);
        let stays = addresses.enter_at(ip("192.0.2.1"), &one, 0).unwrap();
        for number in 0..10_000_u32 {
            drop(addresses.enter_at(IpAddr::V4(number.into()), &one, u64::from(number / 100)));
        }
        assert!(addresses.table.lock().addresses.len() <= 2 * MIN_SWEEP);
        assert_eq!(addresses.enter_at(ip("192.0.2.1"), &one, 200).unwrap_err(), AddressLimit::Open(1));
        drop(stays);
        drop(addresses.enter_at(ip("192.0.2.1"), &one, 200).unwrap());
        addresses.account_of(ip("192.0.2.9")).charge(Kind::Messages, 134).unwrap_err();
        drop(held);
    }
}

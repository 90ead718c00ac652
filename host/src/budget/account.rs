//! The budget, its accounts and charges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// The part of the limit that newcomers may fill: four fifths.
const ADMITTED: (usize, usize) = (4, 5);

/// The purpose of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Buffers of connections, and of the publishers and viewers on them.
    Connections,
    /// RTMP messages: unfinished ones, and those that are tags of a stream.
    Messages,
    /// Output of modules that is no part of a message.
    Output,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Connections, Kind::Messages, Kind::Output];

    /// Returns its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connections => "connections",
            Kind::Messages => "messages",
            Kind::Output => "output",
        }
    }
}

/// The memory of all peers.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Total>);

#[derive(Debug)]
struct Total {
    /// In bytes.
    limit: AtomicUsize,
    /// Bytes charged, by kind.
    used: [AtomicUsize; Kind::ALL.len()],
    /// Number of newcomers that were not admitted.
    refused: AtomicU64,
    /// Number of other charges that failed.
    exceeded: AtomicU64,
}

/// The use of a budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The limit.
    pub limit: usize,
    /// Bytes charged, by kind.
    pub used: [(Kind, usize); Kind::ALL.len()],
    /// Number of new publishers and viewers that were refused.
    pub refused: u64,
    /// Number of times that a peer needed more than its share.
    pub exceeded: u64,
}

/// The memory of the connections of one address. Clones are the same address.
#[derive(Clone, Debug)]
pub struct Address {
    total: Arc<Total>,
    used: Arc<AtomicUsize>,
}

/// The memory of one connection. Clones are the same account.
#[derive(Clone, Debug)]
pub struct Account(Arc<Held>);

#[derive(Debug)]
struct Held {
    address: Address,
    used: AtomicUsize,
}

/// Memory that counts on an account until this is dropped.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct Charge {
    account: Account,
    kind: Kind,
    bytes: usize,
}

/// A charge that would exceed a peer's share. Culprit: peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for {bytes} bytes more: this connection's {connection}, its address's {address} and all peers' {all} bytes may \
     be {limit} together (limits.max_memory)"
)]
pub struct OverBudget {
    /// The bytes of the charge.
    pub bytes: usize,
    /// Bytes that the connection holds.
    pub connection: usize,
    /// Bytes that its address holds.
    pub address: usize,
    /// Bytes that all peers hold.
    pub all: usize,
    /// The most that these may be together: the limit, or less for a newcomer.
    pub limit: usize,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget(Arc::new(Total {
            limit: AtomicUsize::new(limit),
            used: Default::default(),
            refused: AtomicU64::new(0),
            exceeded: AtomicU64::new(0),
        }))
    }

    /// Sets another limit. What is charged stays, also beyond it: new charges fail then, and newcomers are refused before.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Relaxed);
    }

    /// Creates an address that holds nothing.
    pub fn address(&self) -> Address {
        Address { total: self.0.clone(), used: Arc::default() }
    }

    /// Returns what is used now.
    pub fn usage(&self) -> Usage {
        let Total { limit, used, refused, exceeded } = &*self.0;
        Usage {
            limit: limit.load(Relaxed),
            used: Kind::ALL.map(|kind| (kind, used[kind as usize].load(Relaxed))),
            refused: refused.load(Relaxed),
            exceeded: exceeded.load(Relaxed),
        }
    }
}

impl Total {
    fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    fn used(&self) -> usize {
        self.used.iter().map(|used| used.load(Relaxed)).sum()
    }
}

impl Address {
    /// Creates the account of a new connection.
    pub fn account(&self) -> Account {
        Account(Arc::new(Held { address: self.clone(), used: AtomicUsize::new(0) }))
    }

    /// Whether a connection or memory of it belongs to this address.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.used) > 1
    }
}

impl Account {
    /// Creates an account without limit, for a peer that needs none and for tests.
    pub fn unlimited() -> Account {
        Budget::new(usize::MAX).address().account()
    }

    /// Charges memory that the host keeps for this peer.
    ///
    /// # Errors
    /// The peer would exceed its share.
    pub fn charge(&self, kind: Kind, bytes: usize) -> Result<Charge, OverBudget> {
        self.add_share(kind, bytes)?;
        Ok(Charge { account: self.clone(), kind, bytes })
    }

    /// Charges the buffers of a new publisher, viewer or mount.
    ///
    /// # Errors
    /// The rest of the memory is reserved for peers that are connected already.
    pub fn admit(&self, bytes: usize) -> Result<Charge, OverBudget> {
        let (part, whole) = ADMITTED;
        self.check(bytes, self.total().limit() / whole * part).inspect_err(|_| {
            self.total().refused.fetch_add(1, Relaxed);
        })?;
        self.add(Kind::Connections, bytes);
        Ok(Charge { account: self.clone(), kind: Kind::Connections, bytes })
    }

    /// Checks that what the peer holds is within its share, which becomes less as others need memory.
    ///
    /// # Errors
    /// The peer exceeds its share.
    pub fn check_share(&self) -> Result<(), OverBudget> {
        self.add_share(Kind::Connections, 0)
    }

    fn total(&self) -> &Total {
        &self.0.address.total
    }

    fn add_share(&self, kind: Kind, bytes: usize) -> Result<(), OverBudget> {
        self.check(bytes, self.total().limit()).inspect_err(|_| {
            self.total().exceeded.fetch_add(1, Relaxed);
        })?;
        self.add(kind, bytes);
        Ok(())
    }

    /// Checks that `bytes` more are within `limit`. Two threads may pass at once: the limit may then be exceeded by a charge of
    /// each, but no charge fails because of one that fails.
    fn check(&self, bytes: usize, limit: usize) -> Result<(), OverBudget> {
        let (connection, address) = (self.0.used.load(Relaxed), self.0.address.used.load(Relaxed));
        let all = self.total().used();
        let sum = [connection, address, all, bytes, bytes, bytes].into_iter().fold(0, usize::saturating_add);
        if sum > limit {
            return Err(OverBudget { bytes, connection, address, all, limit });
        }
        Ok(())
    }

    fn add(&self, kind: Kind, bytes: usize) {
        self.0.used.fetch_add(bytes, Relaxed);
        self.0.address.used.fetch_add(bytes, Relaxed);
        self.total().used[kind as usize].fetch_add(bytes, Relaxed);
    }

    fn subtract(&self, kind: Kind, bytes: usize) {
        self.0.used.fetch_sub(bytes, Relaxed);
        self.0.address.used.fetch_sub(bytes, Relaxed);
        self.total().used[kind as usize].fetch_sub(bytes, Relaxed);
    }
}

impl Charge {
    /// Raises the charge to `bytes`, if it is less.
    ///
    /// # Errors
    /// The peer would exceed its share; the charge stays as it is.
    pub fn raise_to(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let more = bytes.saturating_sub(self.bytes);
        self.account.add_share(self.kind, more)?;
        self.bytes += more;
        Ok(())
    }

    /// Binds the charge to memory, which counts until its last slice is dropped.
    pub fn bind(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.subtract(self.kind, self.bytes);
    }
}

/// Memory and its charge.
struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1200;

    /// Charges one byte at a time; returns the bytes until a charge fails.
    fn fill(account: &Account) -> (usize, Vec<Charge>) {
        let charges: Vec<_> = std::iter::from_fn(|| account.charge(Kind::Messages, 1).ok()).collect();
        (charges.len(), charges)
    }

    fn used(budget: &Budget) -> usize {
        budget.usage().used.iter().map(|(_, used)| used).sum()
    }

    #[test]
    fn a_share_is_what_the_others_leave() {
        // Accounts by number of address, and what each can hold, in this order.
        let rows: [(&str, &[usize], &[usize]); 5] = [
            ("one connection", &[0], &[LIMIT / 3]),
            ("connections of one address", &[0; 9], &[400, 133, 44, 15, 5, 2, 0, 0, 0]),
            ("connections of two addresses", &[0, 1], &[400, 266]),
            ("the second address", &[0, 0, 1, 1], &[400, 133, 222, 74]),
            (
                "addresses of a connection each",
                &[0, 1, 2, 3, 4, 5, 6, 7],
                &[400, 266, 178, 118, 79, 53, 35, 23],
            ),
        ];
        for (name, accounts, expected) in rows {
            let budget = Budget::new(LIMIT);
            let addresses: Vec<_> = (0..8).map(|_| budget.address()).collect();
            let filled: Vec<_> = accounts.iter().map(|&at| fill(&addresses[at].account())).collect();
            assert_eq!(filled.iter().map(|(bytes, _)| *bytes).collect::<Vec<_>>(), expected, "{name}");
            assert!(used(&budget) <= LIMIT, "{name}");
            drop(filled);
            assert_eq!(used(&budget), 0, "{name}");
        }
    }

    #[test]
    fn large_peers_are_over_their_share_first_and_small_ones_are_served() {
        let budget = Budget::new(LIMIT);
        let small = budget.address().account();
        let mut held = small.charge(Kind::Messages, 20).unwrap();
        let mut hoards: Vec<_> = (0..5)
            .map(|_| {
                let account = budget.address().account();
                let (_, charges) = fill(&account);
                (account, charges)
            })
            .collect();
        let sizes =
            |hoards: &[(Account, Vec<Charge>)]| hoards.iter().map(|one| one.1.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&hoards), [393, 262, 175, 116, 78]);
        small.check_share().unwrap();
        // Once the connection that is over its share has closed, the others are within theirs.
        hoards.retain(|(account, _)| account.check_share().is_ok());
        assert_eq!(sizes(&hoards), [262, 175, 116, 78]);
        // As GOPs come and go.
        for bytes in 21..60 {
            held.raise_to(bytes).unwrap();
            held = small.charge(Kind::Messages, 20).unwrap();
        }
        drop((hoards, held));
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn newcomers_are_refused_before_others_fail() {
        let budget = Budget::new(LIMIT);
        let (old, new) = (budget.address().account(), budget.address().account());
        let others: Vec<_> =
            (0..9).map(|_| budget.address().account().charge(Kind::Output, 100).unwrap()).collect();
        let held = old.charge(Kind::Messages, 50).unwrap();
        assert_eq!(
            new.admit(4).unwrap_err(),
            OverBudget { bytes: 4, connection: 0, address: 0, all: 950, limit: 960 }
        );
        let more = old.charge(Kind::Messages, 5).unwrap();
        assert_eq!((budget.usage().refused, budget.usage().exceeded), (1, 0));
        drop((more, others));
        let admitted = new.admit(4).unwrap();
        let kinds = [(Kind::Connections, 4), (Kind::Messages, 50), (Kind::Output, 0)];
        assert_eq!(budget.usage().used, kinds);
        drop((held, admitted));
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn a_charge_that_fails_changes_nothing() {
        let budget = Budget::new(LIMIT);
        let account = budget.address().account();
        let mut charge = account.charge(Kind::Messages, 100).unwrap();
        let over = charge.raise_to(401).unwrap_err();
        assert_eq!((over.bytes, over.connection, over.address, over.all), (301, 100, 100, 100));
        account.charge(Kind::Output, usize::MAX).unwrap_err();
        charge.raise_to(50).unwrap();
        assert_eq!((used(&budget), budget.usage().exceeded), (100, 2));
        charge.raise_to(400).unwrap();
        assert_eq!(used(&budget), 400);
    }

    #[test]
    fn memory_counts_as_long_as_a_slice_of_it_lives() {
        let budget = Budget::new(LIMIT);
        let address = budget.address();
        let account = address.account();
        let bytes = account.charge(Kind::Messages, 100).unwrap().bind(vec![7; 90]);
        let slice = bytes.slice(3..5);
        drop((bytes, account));
        assert_eq!((&slice[..], used(&budget), address.is_in_use()), (&[7, 7][..], 100, true));
        drop(slice);
        assert_eq!((used(&budget), address.is_in_use()), (0, false));
    }
}

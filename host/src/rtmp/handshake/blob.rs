use sha2::{Digest, Sha256};

/// Length of C1, S1, C2 and S2, in bytes.
pub(super) const BLOB: usize = 1536;

/// The random bytes of one handshake. In memory of their own, which a connection gives up after its handshake.
#[derive(Clone)]
pub struct Random(pub(super) Box<[u8; BLOB - 8]>);

impl Random {
    /// Expands a seed. Equal seeds give equal bytes, so each connection needs its own.
    pub fn from_seed(seed: u64) -> Random {
        let mut bytes = Box::new([0; BLOB - 8]);
        for (counter, part) in (0_u64..).zip(bytes.chunks_mut(32)) {
            let block = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(counter.to_be_bytes());
            part.copy_from_slice(&block.finalize()[..part.len()]);
        }
        Random(bytes)
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(..)")
    }
}

/// Builds an unsigned C1 or S1: epoch, version of the software, random bytes.
pub(super) fn first_blob(epoch: u32, software: [u8; 4], random: &Random) -> [u8; BLOB] {
    let mut blob = [0; BLOB];
    blob[..4].copy_from_slice(&epoch.to_be_bytes());
    blob[4..8].copy_from_slice(&software);
    blob[8..].copy_from_slice(&*random.0);
    blob
}

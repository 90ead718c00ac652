use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::blob::{BLOB, Random};

/// The form of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without digests.
    Simple,
    /// With digests; in C1 and S1 the key block comes first ("schema 0").
    KeyThenDigest,
    /// With digests; in C1 and S1 the digest block comes first ("schema 1").
    DigestThenKey,
}

/// The client's key. Its text signs C1; the whole key derives the key of C2.
pub(super) const PLAYER_KEY: Key = Key { text: b"Genuine Adobe Flash Player 001" };

/// The server's key. Its text signs S1; the whole key derives the key of S2.
pub(super) const SERVER_KEY: Key = Key { text: b"Genuine Adobe Flash Media Server 001" };

/// The second part of both keys.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, //
    0x6E, 0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

const DIGEST: usize = 32;

/// C1 and S1 have 8 bytes, then two blocks of this size, one of which contains the digest.
const BLOCK: usize = 764;

/// An HMAC-SHA256.
pub(super) type HandshakeDigest = [u8; DIGEST];

/// A published key.
pub(super) struct Key {
    text: &'static [u8],
}

impl Key {
    /// Writes the digest of C1 or S1 into it and returns the digest. `scheme` must have digests.
    pub(super) fn sign(&self, blob: &mut [u8; BLOB], scheme: Scheme) -> HandshakeDigest {
        let position = digest_position(blob, scheme);
        let digest = self.digest_around(blob, position);
        blob[position..position + DIGEST].copy_from_slice(&digest);
        digest
    }

    /// Returns the scheme and digest of C1 or S1, or `None` if it contains no valid digest.
    pub(super) fn verify(&self, blob: &[u8; BLOB]) -> Option<(Scheme, HandshakeDigest)> {
        [Scheme::KeyThenDigest, Scheme::DigestThenKey].into_iter().find_map(|scheme| {
            let position = digest_position(blob, scheme);
            let digest = self.digest_around(blob, position);
            (blob[position..position + DIGEST] == digest).then_some((scheme, digest))
        })
    }

    /// Builds C2 or S2: random bytes, signed with a key derived from the other end's digest.
    pub(super) fn answer(&self, theirs: &HandshakeDigest, random: &Random) -> [u8; BLOB] {
        let mut blob = [0; BLOB];
        let (filler, digest) = blob.split_at_mut(BLOB - DIGEST);
        filler.copy_from_slice(&random.0[..filler.len()]);
        digest.copy_from_slice(&self.answer_digest(theirs, filler));
        blob
    }

    /// Returns whether [`answer`](Self::answer) signed this C2 or S2.
    #[cfg(test)]
    pub(super) fn answers(&self, theirs: &HandshakeDigest, blob: &[u8; BLOB]) -> bool {
        let (filler, digest) = blob.split_at(BLOB - DIGEST);
        digest == self.answer_digest(theirs, filler)
    }

    fn answer_digest(&self, theirs: &HandshakeDigest, filler: &[u8]) -> HandshakeDigest {
        let key = hmac(&[self.text, &KEY_TAIL].concat(), &[theirs]);
        hmac(&key, &[filler])
    }

    fn digest_around(&self, blob: &[u8; BLOB], position: usize) -> HandshakeDigest {
        hmac(self.text, &[&blob[..position], &blob[position + DIGEST..]])
    }
}

/// Returns the position of the digest: the sum of the block's 4 offset bytes, counted from behind them.
fn digest_position(blob: &[u8; BLOB], scheme: Scheme) -> usize {
    let block = match scheme {
        Scheme::Simple | Scheme::KeyThenDigest => 8 + BLOCK,
        Scheme::DigestThenKey => 8,
    };
    let offset: usize = blob[block..block + 4].iter().copied().map(usize::from).sum();
    block + 4 + offset % (BLOCK - 4 - DIGEST)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> HandshakeDigest {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| hmac.update(part));
    hmac.finalize().into_bytes().into()
}

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{BLOB, Random, Scheme};

/// Signs what a client sends. C1 is signed with the text alone, C2's key is made with all of it.
pub(super) const PLAYER_KEY: Key = Key { text: b"Genuine Adobe Flash Player 001" };

/// Signs what a server sends. S1 is signed with the text alone, S2's key is made with all of it.
pub(super) const SERVER_KEY: Key = Key { text: b"Genuine Adobe Flash Media Server 001" };

/// Follows the text of either key.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, //
    0x6E, 0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

const DIGEST: usize = 32;

/// C1 and S1 are two blocks of this size behind 8 bytes; one of them holds the digest.
const BLOCK: usize = 764;

/// An HMAC-SHA256.
pub(super) type HandshakeDigest = [u8; DIGEST];

/// A published key.
pub(super) struct Key {
    text: &'static [u8],
}

impl Key {
    /// Puts a digest into C1 or S1, and returns it. `scheme` is one of the two with digests.
    pub(super) fn sign(&self, blob: &mut [u8; BLOB], scheme: Scheme) -> HandshakeDigest {
        let place = place(blob, scheme);
        let digest = self.digest_around(blob, place);
        blob[place..place + DIGEST].copy_from_slice(&digest);
        digest
    }

    /// The scheme by which C1 or S1 is signed, and its digest. `None`: it is not signed, or wrongly.
    pub(super) fn verify(&self, blob: &[u8; BLOB]) -> Option<(Scheme, HandshakeDigest)> {
        [Scheme::KeyThenDigest, Scheme::DigestThenKey].into_iter().find_map(|scheme| {
            let place = place(blob, scheme);
            let digest = self.digest_around(blob, place);
            (blob[place..place + DIGEST] == digest).then_some((scheme, digest))
        })
    }

    /// C2 or S2: random bytes, signed with a key made from the other side's digest.
    pub(super) fn answer(&self, theirs: &HandshakeDigest, random: &Random) -> [u8; BLOB] {
        let mut blob = [0; BLOB];
        let (filler, digest) = blob.split_at_mut(BLOB - DIGEST);
        filler.copy_from_slice(&random.0[..filler.len()]);
        digest.copy_from_slice(&self.answer_digest(theirs, filler));
        blob
    }

    /// C2 or S2 is signed so.
    #[cfg(test)]
    pub(super) fn answers(&self, theirs: &HandshakeDigest, blob: &[u8; BLOB]) -> bool {
        let (filler, digest) = blob.split_at(BLOB - DIGEST);
        digest == self.answer_digest(theirs, filler)
    }

    fn answer_digest(&self, theirs: &HandshakeDigest, filler: &[u8]) -> HandshakeDigest {
        let key = hmac(&[self.text, &KEY_TAIL].concat(), &[theirs]);
        hmac(&key, &[filler])
    }

    fn digest_around(&self, blob: &[u8; BLOB], place: usize) -> HandshakeDigest {
        hmac(self.text, &[&blob[..place], &blob[place + DIGEST..]])
    }
}

/// Where the digest lies: 4 bytes of its block add up to an offset behind them.
fn place(blob: &[u8; BLOB], scheme: Scheme) -> usize {
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

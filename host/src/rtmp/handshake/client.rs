use bytes::{Buf, BytesMut};

use super::digest::{PLAYER_KEY, SERVER_KEY};
use super::{BLOB, HandshakeError, Random, Scheme, VERSION, check_version, first_blob};
use crate::rtmp::output::Output;

/// Of a signed C1: Flash Player 9.0.124.2, the one that ffmpeg names.
const SOFTWARE: [u8; 4] = [9, 0, 124, 2];

/// The client's end of a handshake.
#[derive(Debug)]
pub struct ClientHandshake {
    offered: Scheme,
    epoch: u32,
    random: Random,
    expects: Expects,
    answered: Option<Scheme>,
    read: u64,
}

#[derive(Clone, Copy, Debug)]
enum Expects {
    S0,
    S1,
    S2,
    Nothing,
}

impl ClientHandshake {
    /// Will offer `scheme`; [`Scheme::DigestThenKey`] is what ffmpeg offers, and servers know it best.
    /// `epoch` is the millisecond that C1 names.
    pub fn new(scheme: Scheme, epoch: u32, random: Random) -> ClientHandshake {
        ClientHandshake { offered: scheme, epoch, random, expects: Expects::S0, answered: None, read: 0 }
    }

    /// Puts C0 and C1 into `out`. Call it once, before any [`read`](Self::read).
    pub fn start(&mut self, out: &mut Output) {
        let signed = self.offered != Scheme::Simple;
        let mut c1 = first_blob(self.epoch, if signed { SOFTWARE } else { [0; 4] }, &self.random);
        if signed {
            PLAYER_KEY.sign(&mut c1, self.offered);
        }
        out.extend_from_slice(&[VERSION]);
        out.extend_from_slice(&c1);
    }

    /// Takes what it can from `input`, and puts C2 into `out` once S1 is there. `true`: the handshake is over
    /// and `input` begins with the first chunk.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]. The handshake is spent then.
    pub fn read(&mut self, input: &mut BytesMut, out: &mut Output) -> Result<bool, HandshakeError> {
        loop {
            let before = input.len();
            let expects = match self.expects {
                Expects::S0 => self.read_s0(input)?,
                Expects::S1 => self.read_s1(input, out),
                Expects::S2 => (input.len() >= BLOB).then(|| {
                    input.advance(BLOB);
                    Expects::Nothing
                }),
                Expects::Nothing => return Ok(true),
            };
            let Some(expects) = expects else { return Ok(false) };
            self.read += (before - input.len()) as u64;
            self.expects = expects;
        }
    }

    /// The connection's bytes that the handshake took.
    pub fn bytes_received(&self) -> u64 {
        self.read
    }

    /// How S1 was signed, once it is there.
    pub fn scheme(&self) -> Option<Scheme> {
        self.answered
    }

    fn read_s0(&mut self, input: &mut BytesMut) -> Result<Option<Expects>, HandshakeError> {
        let Some(&version) = input.first() else { return Ok(None) };
        check_version(self.read, version)?;
        input.advance(1);
        Ok(Some(Expects::S1))
    }

    fn read_s1(&mut self, input: &mut BytesMut, out: &mut Output) -> Option<Expects> {
        let s1 = input.first_chunk::<BLOB>()?;
        match SERVER_KEY.verify(s1).filter(|_| self.offered != Scheme::Simple) {
            Some((scheme, digest)) => {
                out.extend_from_slice(&PLAYER_KEY.answer(&digest, &self.random));
                self.answered = Some(scheme);
            }
            None => {
                out.extend_from_slice(s1);
                self.answered = Some(Scheme::Simple);
            }
        }
        input.advance(BLOB);
        Some(Expects::S2)
    }
}

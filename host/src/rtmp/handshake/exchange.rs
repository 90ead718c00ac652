use std::net::Ipv4Addr;

use super::blob::{BLOB, Random, first_blob};
use super::digest::{PLAYER_KEY, SERVER_KEY, Scheme};
use super::error::HandshakeError;
use crate::rtmp::Input;
use crate::rtmp::output::Output;

/// The protocol version in C0 and S0.
pub(super) const VERSION: u8 = 3;

/// The software version in a signed C1: Flash Player 9.0.124.2, the one that ffmpeg sends.
const CLIENT_SOFTWARE: [u8; 4] = [9, 0, 124, 2];
/// The software version in a signed S1: Flash Media Server 4.5. From 3.x on ffmpeg and Flash expect digests.
const SERVER_SOFTWARE: [u8; 4] = [4, 5, 0, 1];

/// The first byte of a proxy header before C0.
const PROXY_MARK: u8 = 0xF3;
/// The longest proxy header, in bytes.
const PROXY_LIMIT: u16 = 1024;

/// One end of a handshake.
#[derive(Debug)]
pub struct Handshake {
    end: End,
    epoch: u32,
    random: Random,
    expects: Expects,
    scheme: Option<Scheme>,
    proxied_client: Option<Ipv4Addr>,
    bytes_received: u64,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Server,
    Client { offered: Scheme },
}

/// The next part of the handshake that the peer sends.
#[derive(Clone, Copy, Debug)]
enum Expects {
    ProxyHeaderOrC0,
    /// C0 or S0.
    Version,
    /// C1 or S1.
    FirstBlob,
    /// C2 or S2.
    LastBlob,
    Nothing,
}

impl Handshake {
    /// Creates the server's end. `epoch` is the time that S1 names, in milliseconds.
    pub fn server(epoch: u32, random: Random) -> Handshake {
        Handshake::new(End::Server, epoch, random, Expects::ProxyHeaderOrC0)
    }

    /// Creates the client's end, which offers `scheme`. ffmpeg offers [`Scheme::DigestThenKey`], so servers handle it
    /// best. `epoch` is the time that C1 names, in milliseconds.
    pub fn client(scheme: Scheme, epoch: u32, random: Random) -> Handshake {
        Handshake::new(End::Client { offered: scheme }, epoch, random, Expects::Version)
    }

    fn new(end: End, epoch: u32, random: Random, expects: Expects) -> Handshake {
        Handshake { end, epoch, random, expects, scheme: None, proxied_client: None, bytes_received: 0 }
    }

    /// Writes C0 and C1 at the client's end; the server's end starts with nothing. Must be called once, before
    /// [`read`](Self::read).
    pub fn start(&self, out: &mut Output) {
        let End::Client { offered } = self.end else { return };
        out.extend_from_slice(&[VERSION]);
        if offered == Scheme::Simple {
            out.extend_from_slice(&first_blob(self.epoch, [0; 4], &self.random));
        } else {
            let mut c1 = first_blob(self.epoch, CLIENT_SOFTWARE, &self.random);
            PLAYER_KEY.sign(&mut c1, offered);
            out.extend_from_slice(&c1);
        }
    }

    /// Consumes complete parts from `input` and writes the responses to `out`: S0, S1 and S2 after C1, or C2 after S1.
    /// Returns true when the handshake is complete and `input` begins with the first chunk.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]. `read` must not be called again.
    pub fn read(&mut self, input: &mut Input, out: &mut Output) -> Result<bool, HandshakeError> {
        loop {
            let before = input.len();
            let expects = match self.expects {
                Expects::ProxyHeaderOrC0 => self.read_proxy_header(input)?,
                Expects::Version => self.read_version(input)?,
                Expects::FirstBlob => self.read_first_blob(input, out),
                Expects::LastBlob => (input.len() >= BLOB).then(|| {
                    input.advance(BLOB);
                    Expects::Nothing
                }),
                Expects::Nothing => return Ok(true),
            };
            let Some(expects) = expects else { return Ok(false) };
            self.bytes_received += (before - input.len()) as u64;
            self.expects = expects;
        }
    }

    /// Returns the number of bytes consumed so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Returns the scheme that both ends use, once the peer's first blob has been read.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Returns the client's address from a proxy header before C0. Any peer can send one, so it must be believed only
    /// from a trusted proxy.
    pub fn proxied_client(&self) -> Option<Ipv4Addr> {
        self.proxied_client
    }

    fn read_proxy_header(&mut self, input: &mut Input) -> Result<Option<Expects>, HandshakeError> {
        match input[..] {
            [] => return Ok(None),
            [mark, ..] if mark != PROXY_MARK => return Ok(Some(Expects::Version)),
            _ => {}
        }
        let &[_, high, low, ref body @ ..] = &input[..] else { return Ok(None) };
        let length = u16::from_be_bytes([high, low]);
        if length > PROXY_LIMIT {
            let (offset, limit) = (self.bytes_received, PROXY_LIMIT);
            return Err(HandshakeError::ProxyHeaderTooLong { offset, length, limit });
        }
        let Some(body) = body.get(..usize::from(length)) else { return Ok(None) };
        if let [a, b, c, d, ..] = *body {
            self.proxied_client = Some(Ipv4Addr::new(a, b, c, d));
        }
        input.advance(3 + usize::from(length));
        Ok(Some(Expects::Version))
    }

    fn read_version(&mut self, input: &mut Input) -> Result<Option<Expects>, HandshakeError> {
        let Some(&version) = input.first() else { return Ok(None) };
        let offset = self.bytes_received;
        match version {
            VERSION => {}
            6 | 8 | 9 => return Err(HandshakeError::Encrypted { offset, version }),
            _ => return Err(HandshakeError::Version { offset, version }),
        }
        input.advance(1);
        Ok(Some(Expects::FirstBlob))
    }

    fn read_first_blob(&mut self, input: &mut Input, out: &mut Output) -> Option<Expects> {
        let blob = input.first_chunk::<BLOB>()?;
        self.scheme = Some(match self.end {
            End::Server => self.answer_c1(blob, out),
            End::Client { offered } => self.answer_s1(blob, offered, out),
        });
        input.advance(BLOB);
        Some(Expects::LastBlob)
    }

    fn answer_c1(&self, c1: &[u8; BLOB], out: &mut Output) -> Scheme {
        out.extend_from_slice(&[VERSION]);
        if let Some((scheme, digest)) = PLAYER_KEY.verify(c1) {
            let mut s1 = first_blob(self.epoch, SERVER_SOFTWARE, &self.random);
            SERVER_KEY.sign(&mut s1, scheme);
            out.extend_from_slice(&s1);
            out.extend_from_slice(&SERVER_KEY.answer(&digest, &self.random));
            scheme
        } else {
            out.extend_from_slice(&first_blob(self.epoch, [0; 4], &self.random));
            out.extend_from_slice(c1);
            Scheme::Simple
        }
    }

    fn answer_s1(&self, s1: &[u8; BLOB], offered: Scheme, out: &mut Output) -> Scheme {
        match SERVER_KEY.verify(s1).filter(|_| offered != Scheme::Simple) {
            Some((scheme, digest)) => {
                out.extend_from_slice(&PLAYER_KEY.answer(&digest, &self.random));
                scheme
            }
            None => {
                out.extend_from_slice(s1);
                Scheme::Simple
            }
        }
    }
}

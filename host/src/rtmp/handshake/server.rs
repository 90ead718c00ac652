use std::net::Ipv4Addr;

use bytes::{Buf, BytesMut};

use super::digest::{PLAYER_KEY, SERVER_KEY};
use super::{BLOB, HandshakeError, Random, Scheme, VERSION, check_version, first_blob};
use crate::rtmp::output::Output;

/// Of a signed S1. From 3.x on ffmpeg and Flash expect digests, so it names a Flash Media Server 4.5.
const SOFTWARE: [u8; 4] = [4, 5, 0, 1];

/// Starts a proxy header before C0.
const PROXY_MARK: u8 = 0xF3;
const PROXY_LIMIT: u16 = 1024;

/// The server's end of a handshake.
#[derive(Debug)]
pub struct ServerHandshake {
    epoch: u32,
    random: Random,
    expects: Expects,
    scheme: Option<Scheme>,
    proxied_client: Option<Ipv4Addr>,
    read: u64,
}

#[derive(Clone, Copy, Debug)]
enum Expects {
    ProxyOrC0,
    C0,
    C1,
    C2,
    Nothing,
}

impl ServerHandshake {
    /// Awaits a client. `epoch` is the millisecond that S1 names.
    pub fn new(epoch: u32, random: Random) -> ServerHandshake {
        let (scheme, proxied_client) = (None, None);
        ServerHandshake { epoch, random, expects: Expects::ProxyOrC0, scheme, proxied_client, read: 0 }
    }

    /// Takes what it can from `input`, and puts S0, S1 and S2 into `out` once C1 is there. `true`: the
    /// handshake is over and `input` begins with the first chunk.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]. The handshake is spent then.
    pub fn read(&mut self, input: &mut BytesMut, out: &mut Output) -> Result<bool, HandshakeError> {
        loop {
            let before = input.len();
            let expects = match self.expects {
                Expects::ProxyOrC0 => self.read_proxy_header(input)?,
                Expects::C0 => self.read_c0(input)?,
                Expects::C1 => self.read_c1(input, out),
                Expects::C2 => (input.len() >= BLOB).then(|| {
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

    /// How C1 was signed, once it is there.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The client's address as a proxy header before C0 claims it. Any peer can send one: believe it only
    /// from a proxy that the operator named.
    pub fn proxied_client(&self) -> Option<Ipv4Addr> {
        self.proxied_client
    }

    fn read_proxy_header(&mut self, input: &mut BytesMut) -> Result<Option<Expects>, HandshakeError> {
        match input[..] {
            [] => return Ok(None),
            [mark, ..] if mark != PROXY_MARK => return Ok(Some(Expects::C0)),
            _ => {}
        }
        let &[_, high, low, ref body @ ..] = &input[..] else { return Ok(None) };
        let length = u16::from_be_bytes([high, low]);
        if length > PROXY_LIMIT {
            let (offset, limit) = (self.read, PROXY_LIMIT);
            return Err(HandshakeError::ProxyHeaderTooLong { offset, length, limit });
        }
        let Some(body) = body.get(..usize::from(length)) else { return Ok(None) };
        if let [a, b, c, d, ..] = *body {
            self.proxied_client = Some(Ipv4Addr::new(a, b, c, d));
        }
        input.advance(3 + usize::from(length));
        Ok(Some(Expects::C0))
    }

    fn read_c0(&mut self, input: &mut BytesMut) -> Result<Option<Expects>, HandshakeError> {
        let Some(&version) = input.first() else { return Ok(None) };
        check_version(self.read, version)?;
        input.advance(1);
        Ok(Some(Expects::C1))
    }

    fn read_c1(&mut self, input: &mut BytesMut, out: &mut Output) -> Option<Expects> {
        let c1 = input.first_chunk::<BLOB>()?;
        out.extend_from_slice(&[VERSION]);
        if let Some((scheme, digest)) = PLAYER_KEY.verify(c1) {
            let mut s1 = first_blob(self.epoch, SOFTWARE, &self.random);
            SERVER_KEY.sign(&mut s1, scheme);
            out.extend_from_slice(&s1);
            out.extend_from_slice(&SERVER_KEY.answer(&digest, &self.random));
            self.scheme = Some(scheme);
        } else {
            out.extend_from_slice(&first_blob(self.epoch, [0; 4], &self.random));
            out.extend_from_slice(c1);
            self.scheme = Some(Scheme::Simple);
        }
        input.advance(BLOB);
        Some(Expects::C2)
    }
}

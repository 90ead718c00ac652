//! A player, sans-IO: bytes in, progress and bytes out.

use super::chunks::{self, ChunkReader};
use super::{HANDSHAKE, hello};
use crate::flv::{self, Amf0};
use crate::viewer::{Arrival, Fault, Labels};

/// The state of a player after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stream has not begun.
    Opening,
    /// Media has arrived. Who needs no message may discard the bytes that follow.
    Playing,
}

enum Stage {
    Handshake(Vec<u8>),
    Connect,
    CreateStream,
    Play,
    Media,
}

/// A connection that plays one stream.
pub struct Player {
    address: String,
    app: String,
    key: String,
    stage: Stage,
    reader: ChunkReader,
    labels: Labels,
}

impl Player {
    /// Returns a player of `app/key` at `address`, and the first bytes to send.
    pub fn new(address: &str, path: &str) -> (Self, Vec<u8>) {
        let (app, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let player = Self {
            address: address.to_owned(),
            app: app.to_owned(),
            key: key.to_owned(),
            stage: Stage::Handshake(Vec::new()),
            reader: ChunkReader::default(),
            labels: Labels::default(),
        };
        (player, hello())
    }

    /// Number of labelled tags that are missing between those that arrived.
    pub fn lost(&self) -> u64 {
        self.labels.lost()
    }

    /// Reads bytes of the socket, calls `arrived` for each labelled tag, and appends what must be sent to `out`.
    ///
    /// # Errors
    /// The first fault of the connection; the player must not be used afterwards.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut arrived: impl FnMut(Arrival),
    ) -> Result<Progress, Fault> {
        if let Stage::Handshake(received) = &mut self.stage {
            received.extend(bytes);
            let Some((s0_s1_s2, rest)) = received.split_at_checked(1 + 2 * HANDSHAKE) else {
                return Ok(Progress::Opening);
            };
            out.extend(&s0_s1_s2[1..1 + HANDSHAKE]);
            self.reader.on_bytes(rest);
            chunks::write_chunk_size(out);
            chunks::write_connect(out, &self.address, &self.app);
            self.stage = Stage::Connect;
        } else {
            self.reader.on_bytes(bytes);
        }
        while let Some(message) = self.reader.next().map_err(|_| Fault::Chunk)? {
            if chunks::is_command(&message, "_error") || is_failure(&message) {
                return Err(Fault::Status(String::from_utf8_lossy(&message.payload).into_owned()));
            }
            let answered = chunks::is_command(&message, "_result");
            match self.stage {
                Stage::Connect if answered => {
                    chunks::write_command(out, 0, "createStream", 2.0, &[Amf0::Null]);
                    self.stage = Stage::CreateStream;
                }
                Stage::CreateStream if answered => {
                    let stream = chunks::stream_id(&message).map_err(|_| Fault::Chunk)?;
                    let values = [Amf0::Null, Amf0::String(&self.key), Amf0::Number(-2000.0)];
                    chunks::write_command(out, stream, "play", 3.0, &values);
                    self.stage = Stage::Play;
                }
                Stage::Play | Stage::Media if [flv::AUDIO, flv::VIDEO].contains(&message.kind) => {
                    self.stage = Stage::Media;
                    if let Some(instant) =
                        self.labels.on_tag(message.kind, message.timestamp, &message.payload)?
                    {
                        arrived(Arrival { kind: message.kind, instant });
                    }
                }
                _ => {}
            }
        }
        Ok(if matches!(self.stage, Stage::Media) { Progress::Playing } else { Progress::Opening })
    }
}

/// Whether the server says that the stream cannot be played, or has ended.
fn is_failure(message: &chunks::Message) -> bool {
    let says = |text: &[u8]| message.payload.windows(text.len()).any(|window| window == text);
    chunks::is_command(message, "onStatus")
        && [&b"NetStream.Play.Failed"[..], b"StreamNotFound", b"UnpublishNotify"]
            .iter()
            .any(|text| says(text))
}

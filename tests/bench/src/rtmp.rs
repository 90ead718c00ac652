//! The part of RTMP 1.0 that a publisher and a player need: simple handshake (5.2), chunks (5.3), commands (7.2).
//!
//! Written by hand, so that the bench shares no code with the host it measures. Chunks out are 4,096 bytes, as OBS sends them.

mod chunks;
mod play;
mod publish;

pub use play::{Player, Progress};
pub use publish::Publisher;

/// Message type of Set Chunk Size.
const SET_CHUNK_SIZE: u8 = 1;

/// Message type of AMF0 commands.
const COMMAND: u8 = 20;

/// Size of C1, S1, C2 and S2.
const HANDSHAKE: usize = 1536;

/// C0 and C1.
fn hello() -> Vec<u8> {
    let mut hello = vec![0; 1 + HANDSHAKE];
    hello[0] = 3;
    for (index, byte) in hello.iter_mut().enumerate().skip(9) {
        *byte = (index * 31) as u8;
    }
    hello
}

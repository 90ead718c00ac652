//! The socket of a connection to another server.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A stream of bytes, over TLS or not.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A step of reading and writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Bytes were written, and nothing is left to write.
    Drained,
    /// Bytes were written.
    Wrote,
    /// Bytes were read.
    Read,
    /// The end of the input.
    End,
}

/// Writes `output` or reads into `input`, whichever is possible first. What was written is flushed before it counts as
/// drained; `unflushed` keeps this between calls.
pub(super) fn poll_move(
    mut socket: &mut impl Socket,
    input: &mut impl BufMut,
    output: &mut impl Buf,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Moved>> {
    if output.has_remaining() {
        if let Poll::Ready(written) = pin!(socket.write_buf(output)).poll(cx) {
            *unflushed = true;
            return Poll::Ready(written.and_then(|bytes| match bytes {
                0 => Err(io::ErrorKind::WriteZero.into()),
                _ => Ok(Moved::Wrote),
            }));
        }
    } else if *unflushed && let Poll::Ready(flushed) = Pin::new(&mut socket).poll_flush(cx) {
        *unflushed = false;
        return Poll::Ready(flushed.map(|()| Moved::Drained));
    }
    let read = pin!(socket.read_buf(input)).poll(cx);
    read.map_ok(|bytes| if bytes == 0 { Moved::End } else { Moved::Read })
}

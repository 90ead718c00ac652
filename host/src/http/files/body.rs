//! The body of a static file: read a chunk at a time, off the network threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::budget::Charge;

/// Bytes read at once, and held in memory per client.
const CHUNK: u64 = 64 * 1024;

/// Bytes of memory of a body: a chunk that is read and one that is sent.
pub(super) const MEMORY: usize = 2 * CHUNK as usize;

/// A prefix from memory, then a part of a file.
#[derive(Debug)]
pub struct FileBody {
    first: Bytes,
    file: Arc<File>,
    part: Range<u64>,
    /// The read in progress.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    _room: Charge,
}

impl FileBody {
    /// Creates a body of `first`, then `part` of `file`. It holds its memory, `room`.
    pub(super) fn new(first: Bytes, file: File, part: Range<u64>, room: Charge) -> FileBody {
        FileBody { first, file: Arc::new(file), part, reading: None, _room: room }
    }

    /// Returns the number of bytes still to come.
    pub(in crate::http) fn remaining(&self) -> u64 {
        self.first.len() as u64 + (self.part.end - self.part.start)
    }

    /// Polls for the next bytes; `None` at the end.
    ///
    /// # Errors
    /// An error of the file system, or [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub(in crate::http) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        if self.part.is_empty() {
            return Poll::Ready(None);
        }
        let (file, at) = (&self.file, self.part.start);
        let len = CHUNK.min(self.part.end - at) as usize;
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            spawn_blocking(move || read_chunk(&file, at, len))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        // The join fails only when the runtime shuts down.
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        Poll::Ready(Some(read.inspect(|bytes| self.part.start += bytes.len() as u64)))
    }
}

fn read_chunk(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut chunk = vec![0; len];
    loop {
        match file.read_at(&mut chunk, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                chunk.truncate(read);
                return Ok(chunk.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

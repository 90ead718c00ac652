//! Input: bytes from a peer that have not been read yet.

use std::ops::Deref;

/// Bytes from a peer, in order. The owner of the socket appends them; the session reads from the front.
///
/// A buffer can be lent for the time from a read of the socket until its messages are read, so that a connection that waits has none.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    /// Bytes at the front that have been read.
    read: usize,
}

impl Input {
    /// Returns the buffer, to append to, with room for at least `least` bytes.
    pub fn room(&mut self, least: usize) -> &mut Vec<u8> {
        if self.buffer.capacity() - self.buffer.len() < least {
            self.compact();
            self.buffer.reserve(least);
        }
        &mut self.buffer
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).extend_from_slice(bytes);
    }

    /// Appends the bytes in `buffer`, and keeps it.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.is_empty() {
            *self = Input { buffer, read: 0 };
        } else {
            self.extend_from_slice(&buffer);
        }
    }

    /// Returns the buffer, empty, if it has room for `size` bytes. What has not been read stays, in a buffer of its length.
    pub fn give_back(&mut self, size: usize) -> Option<Vec<u8>> {
        if self.buffer.capacity() < size {
            return None;
        }
        let rest = Input { buffer: self.to_vec(), read: 0 };
        let Input { mut buffer, .. } = std::mem::replace(self, rest);
        buffer.clear();
        Some(buffer)
    }

    /// Drops bytes from the front: what has been read.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.read += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops all bytes.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.read = 0;
    }

    /// Moves what has not been read to the front of the buffer.
    fn compact(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.read));
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.read..]
    }
}

impl From<&[u8]> for Input {
    fn from(bytes: &[u8]) -> Input {
        Input { buffer: bytes.to_vec(), read: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_buffer_has_them() {
        let mut input = Input::from(&b"abcdef"[..]);
        input.advance(2);
        input.lend(b"gh".to_vec());
        assert_eq!(&*input, b"cdefgh");
        input.advance(6);
        let mut large = Vec::with_capacity(64);
        large.extend_from_slice(b"ijkl");
        input.lend(large);
        input.advance(1);
        assert_eq!(input.give_back(65), None);
        assert_eq!(input.give_back(64).map(|buffer| (buffer.len(), buffer.capacity())), Some((0, 64)));
        assert_eq!((&*input, input.buffer.capacity()), (&b"jkl"[..], 3));
        input.advance(1);
        input.room(64).push(b'm');
        assert_eq!((&*input, input.buffer.len()), (&b"klm"[..], 3), "what was read has made room");
        input.advance(3);
        assert!(input.is_empty() && input.give_back(64).is_some());
        assert_eq!(input.buffer.capacity(), 0);
    }
}

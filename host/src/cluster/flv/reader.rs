//! The tags of an FLV file that comes in pieces (FLV 10.1, E.2 to E.4.1).

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::budget::{Account, Charge, Kind, OverBudget};
use crate::media::{Millis, Tag, TagKind};

const FILE_HEADER_LEN: usize = 9;
const TAG_HEADER_LEN: usize = 11;
const PREVIOUS_TAG_SIZE_LEN: usize = 4;

/// The longest file header, in bytes: later versions may have a longer one than version 1.
const MAX_FILE_HEADER: usize = 1024;

/// Bytes of memory for the body of a tag that is allocated before any of it has come.
const FIRST_CAPACITY: usize = 64 << 10;

/// Bytes of memory of a tag beside its body: an estimate.
const OVERHEAD: usize = 256;

/// A reader of an FLV file. It keeps at most one tag that is not whole.
#[derive(Debug)]
pub struct FlvReader {
    /// The longest body of a tag, in bytes.
    max_tag: u32,
    account: Account,
    state: State,
    /// The start of the part that is read next, if it has come in pieces.
    partial: SmallVec<[u8; 16]>,
}

#[derive(Debug)]
enum State {
    FileHeader,
    /// Bytes that have no meaning here: the rest of a longer file header, the body of a tag of another kind.
    Skip {
        left: usize,
        then: Box<State>,
    },
    /// The size after a tag, which must be this one; of the first, before any tag, any is accepted.
    PreviousTagSize {
        expected: Option<u32>,
    },
    TagHeader,
    Body {
        kind: TagKind,
        timestamp: u32,
        len: usize,
        bytes: Vec<u8>,
        charge: Charge,
    },
}

/// The reason why a file cannot be read. Culprit: the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// The file does not begin with a header of FLV.
    #[error("not FLV")]
    NoHeader,
    /// A tag is longer than the limit.
    #[error("an FLV tag has {len} bytes, more than {limit} (limits.max_message)")]
    TagTooLong {
        /// Its length, in bytes.
        len: u32,
        /// The limit.
        limit: u32,
    },
    /// A tag is encrypted.
    #[error("an FLV tag is encrypted")]
    Encrypted,
    /// The size after a tag is not that of the tag.
    #[error("the size after an FLV tag is {found}, not {expected}")]
    PreviousTagSize {
        /// The size found.
        found: u32,
        /// The size of the tag.
        expected: u32,
    },
    /// There is no memory for a tag.
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
}

impl FlvReader {
    /// Creates a reader of a file whose tags have bodies of at most `max_tag` bytes. They are charged to `account`.
    pub fn new(max_tag: u32, account: Account) -> FlvReader {
        FlvReader { max_tag, account, state: State::FileHeader, partial: SmallVec::new() }
    }

    /// Returns the next tag, and removes what was read from `input`. `None`: `input` is empty, and more is needed.
    ///
    /// # Errors
    /// The file is invalid, or there is no memory.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Tag>, FlvError> {
        loop {
            let next = match std::mem::replace(&mut self.state, State::TagHeader) {
                State::FileHeader => match self.take::<FILE_HEADER_LEN>(input) {
                    Some(header) => after_file_header(header)?,
                    None => return self.wait(State::FileHeader),
                },
                State::Skip { left, then } => {
                    let skipped = left.min(input.len());
                    input.advance(skipped);
                    if skipped < left {
                        return self.wait(State::Skip { left: left - skipped, then });
                    }
                    *then
                }
                State::PreviousTagSize { expected } => match self.take::<PREVIOUS_TAG_SIZE_LEN>(input) {
                    Some(size) => match (u32::from_be_bytes(size), expected) {
                        (found, Some(expected)) if found != expected => {
                            return Err(FlvError::PreviousTagSize { found, expected });
                        }
                        _ => State::TagHeader,
                    },
                    None => return self.wait(State::PreviousTagSize { expected }),
                },
                State::TagHeader => match self.take::<TAG_HEADER_LEN>(input) {
                    Some(header) => self.after_tag_header(header)?,
                    None => return self.wait(State::TagHeader),
                },
                State::Body { kind, timestamp, len, mut bytes, mut charge } => {
                    let part = input.split_to(input.len().min(len - bytes.len()));
                    grow(&mut bytes, part.len(), len, &mut charge)?;
                    bytes.extend_from_slice(&part);
                    if bytes.len() < len {
                        return self.wait(State::Body { kind, timestamp, len, bytes, charge });
                    }
                    self.state = State::PreviousTagSize { expected: Some((len + TAG_HEADER_LEN) as u32) };
                    let payload = charge.bind(bytes);
                    return Ok(Some(Tag::new(kind, Millis(timestamp.into()), payload)));
                }
            };
            self.state = next;
        }
    }

    /// Whether the file may end here: at the end of a tag. Files of some servers end without the size after the last tag.
    pub fn is_between_tags(&self) -> bool {
        matches!(self.state, State::TagHeader | State::PreviousTagSize { .. }) && self.partial.is_empty()
    }

    fn wait(&mut self, state: State) -> Result<Option<Tag>, FlvError> {
        self.state = state;
        Ok(None)
    }

    /// Takes `N` bytes; `None` if there are fewer, which are kept.
    fn take<const N: usize>(&mut self, input: &mut Bytes) -> Option<[u8; N]> {
        let part = input.split_to(input.len().min(N - self.partial.len()));
        self.partial.extend_from_slice(&part);
        let taken = self.partial[..].try_into().ok()?;
        self.partial.clear();
        Some(taken)
    }

    fn after_tag_header(&self, header: [u8; TAG_HEADER_LEN]) -> Result<State, FlvError> {
        let [kind, l0, l1, l2, t0, t1, t2, extended, ..] = header;
        let (len, limit) = (u32::from_be_bytes([0, l0, l1, l2]), self.max_tag);
        if len > limit {
            return Err(FlvError::TagTooLong { len, limit });
        }
        // Bit 5, Filter (E.4.1).
        if kind & 0x20 != 0 {
            return Err(FlvError::Encrypted);
        }
        let kind = TagKind(kind & 0x1f);
        let len = len as usize;
        if ![TagKind::AUDIO, TagKind::VIDEO, TagKind::SCRIPT].contains(&kind) {
            let then = State::PreviousTagSize { expected: Some((len + TAG_HEADER_LEN) as u32) };
            return Ok(State::Skip { left: len, then: Box::new(then) });
        }
        let charge = self.account.charge(Kind::Messages, OVERHEAD)?;
        let timestamp = u32::from_be_bytes([extended, t0, t1, t2]);
        Ok(State::Body { kind, timestamp, len, bytes: Vec::new(), charge })
    }
}

fn after_file_header(header: [u8; FILE_HEADER_LEN]) -> Result<State, FlvError> {
    let [b'F', b'L', b'V', _version, _flags, a, b, c, d] = header else { return Err(FlvError::NoHeader) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(FILE_HEADER_LEN..=MAX_FILE_HEADER).contains(&len) {
        return Err(FlvError::NoHeader);
    }
    let then = Box::new(State::PreviousTagSize { expected: None });
    Ok(State::Skip { left: len - FILE_HEADER_LEN, then })
}

/// Makes room for `more` bytes of a body of `len` bytes: for little of it before it has come, so that a length alone takes no memory.
fn grow(bytes: &mut Vec<u8>, more: usize, len: usize, charge: &mut Charge) -> Result<(), OverBudget> {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let capacity = (needed * 2).max(FIRST_CAPACITY).min(len);
        charge.raise_to(capacity + OVERHEAD)?;
        bytes.reserve_exact(capacity - bytes.len());
    }
    Ok(())
}

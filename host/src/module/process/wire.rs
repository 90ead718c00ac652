//! Wire: what the host and a module's process say to each other. Sans-IO.
//!
//! A frame is a length, four bytes, of what follows it: a kind, one byte, and a body. Integers are big-endian; a text
//! is its length in four bytes and UTF-8. The host speaks the same build of this protocol as the process, which is
//! its own program, so there is no version.
//!
//! | From the host | Body | Answered by |
//! |---|---|---|
//! | `MAKE` | the remuxer's number, facts of the stream, state, options | `DONE` |
//! | `TAG` | the remuxer's number, header fields, payload | `DONE` |
//! | `FINISH`, `FREE` | the remuxer's number | `DONE` |
//! | `STATE` | the remuxer's number | `STATE` |
//! | `TEST` | 0 | `DONE` or `REFUSED` |
//!
//! The process says `DESCRIBED` or `REFUSED` once, when it has loaded the module, and `LOG` at any time. The fault of a
//! call comes with `DONE`, before the blocks that the call made. A part of a block is either bytes, or a range of
//! the payload of the tag that the call was given: the host has those bytes, and they do not travel back.
//!
//! The module's process is hostile: whatever it sends is read to the end or refused, and costs no more than its
//! length, which the host limits.

use bytes::{Buf, BufMut, Bytes};
use remuxd_plugin_api::abi::{OPTION_CHOICE, OPTION_FLAG, OPTION_INTEGER, OPTION_TEXT, RawInfo, RawOption};
use remuxd_plugin_api::{Codec, Options, Packet, Setup, StreamFacts, TagKind};
use smallvec::SmallVec;
use thiserror::Error;

use crate::media::{Millis, Tag, Tracks};
use crate::module::intake::{BlockHead, Intake};
use crate::module::text::one_line;
use crate::module::{Module, ModuleFault, OutBlock, OwnedOptionKind};

/// How long the length of a frame is.
pub const LENGTH: usize = 4;

/// The longest frame that describes a module.
pub const MAX_DESCRIPTION: usize = 1 << 20;
/// What an answer may be longer than the budget of its call: a fault's message, and the largest state.
pub const ANSWER_SLACK: usize = 128 << 10;
/// The longest text for the log, in bytes: a line, why a module was refused, a fault's message. [`one_line`] makes
/// none that is longer.
pub const MAX_TEXT: usize = 8 << 10;

/// The kinds of frames.
pub mod kind {
    pub const MAKE: u8 = 1;
    pub const TAG: u8 = 2;
    pub const FINISH: u8 = 3;
    pub const STATE: u8 = 4;
    pub const FREE: u8 = 5;
    pub const TEST: u8 = 6;
    pub const DESCRIBED: u8 = 16;
    pub const REFUSED: u8 = 17;
    pub const LOG: u8 = 18;
    pub const DONE: u8 = 19;
}

/// Tags of faults; 0 is none.
mod fault {
    pub const NONE: u8 = 0;
    pub const PANICKED: u8 = 1;
    pub const REMUX: u8 = 2;
    pub const FLOODED: u8 = 3;
    pub const LARGE_STATE: u8 = 4;
    pub const BAD_FLAGS: u8 = 5;
    pub const BAD_TRACK: u8 = 6;
    pub const POISONED: u8 = 7;
    pub const UNSUPPORTED: u8 = 8;
}

/// Tags of parts.
mod part {
    pub const BYTES: u8 = 0;
    pub const PAYLOAD: u8 = 1;
}

/// What cannot be read. The culprit is the module in the other process.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A frame longer than its kind may be at this point.
    #[error("frame of {len} bytes, {limit} at most")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A frame of a kind that has no place here.
    #[error("frame of kind {kind} out of place")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// More than an answer.
    #[error("frame that nobody asked for")]
    Unasked,
    /// A body that ends too soon, or holds a value that does not exist.
    #[error("malformed {what}")]
    Malformed {
        /// The field.
        what: &'static str,
    },
}

type Read<T> = Result<T, WireError>;

fn malformed<T>(what: &'static str) -> Read<T> {
    Err(WireError::Malformed { what })
}

/// A frame, without its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub body: Bytes,
}

impl Frame {
    /// The frame whose length stood before `bytes`.
    pub fn read(mut bytes: Bytes) -> Read<Frame> {
        let kind = u8(&mut bytes, "kind")?;
        Ok(Frame { kind, body: bytes })
    }

    /// The body, if the frame is of this kind.
    pub fn body(self, kind: u8) -> Read<Bytes> {
        if self.kind == kind { Ok(self.body) } else { Err(WireError::Kind { kind: self.kind }) }
    }
}

/// Starts a frame; [`seal`] ends it.
pub fn frame(kind: u8) -> Vec<u8> {
    let mut frame = vec![0; LENGTH];
    frame.push(kind);
    frame
}

/// Writes the length of a frame, of which `more` bytes follow elsewhere.
pub fn seal(frame: &mut [u8], more: usize) {
    let len = (frame.len() - LENGTH + more) as u32;
    frame[..LENGTH].copy_from_slice(&len.to_be_bytes());
}

// Fields.

fn u8(from: &mut Bytes, what: &'static str) -> Read<u8> {
    from.try_get_u8().or_else(|_| malformed(what))
}

fn u32(from: &mut Bytes, what: &'static str) -> Read<u32> {
    from.try_get_u32().or_else(|_| malformed(what))
}

fn i64(from: &mut Bytes, what: &'static str) -> Read<i64> {
    from.try_get_i64().or_else(|_| malformed(what))
}

fn bytes(from: &mut Bytes, what: &'static str) -> Read<Bytes> {
    let len = u32(from, what)? as usize;
    if len <= from.len() { Ok(from.split_to(len)) } else { malformed(what) }
}

fn text(from: &mut Bytes, what: &'static str) -> Read<String> {
    String::from_utf8(bytes(from, what)?.into()).or_else(|_| malformed(what))
}

/// Each element takes at least a byte, so the length of the body limits what is allocated.
fn list<T>(
    from: &mut Bytes,
    what: &'static str,
    read: impl Fn(&mut Bytes, &'static str) -> Read<T>,
) -> Read<Vec<T>> {
    let count = u32(from, what)?;
    (0..count).map(|_| read(from, what)).collect()
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u32(bytes.len() as u32);
    to.extend_from_slice(bytes);
}

fn put_list<T>(to: &mut Vec<u8>, list: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    to.put_u32(list.len() as u32);
    list.iter().for_each(|element| put(to, element));
}

// From the host.

/// A frame about a remuxer, whose number it begins with.
pub fn about(kind: u8, number: u32) -> Vec<u8> {
    let mut frame = frame(kind);
    frame.put_u32(number);
    frame
}

/// The remuxer's number that a frame begins with.
pub fn number(from: &mut Bytes) -> Read<u32> {
    u32(from, "number of a remuxer")
}

/// Writes what a remuxer is made for.
pub fn put_setup(to: &mut Vec<u8>, setup: &Setup) {
    to.put_u32(setup.stream.video.0);
    to.put_u32(setup.stream.audio.0);
    to.put_u32(setup.stream.age_ms);
    put_bytes(to, &setup.state);
    let options: Vec<_> = setup.options.iter().collect();
    put_list(to, &options, |to, (name, value)| {
        put_bytes(to, name.as_bytes());
        put_bytes(to, value.as_bytes());
    });
}

/// What a remuxer is made for.
pub fn setup(from: &mut Bytes) -> Read<Setup> {
    let (video, audio) = (u32(from, "codec")?, u32(from, "codec")?);
    let facts = StreamFacts::new(Codec(video), Codec(audio), u32(from, "age")?);
    let state = bytes(from, "state")?;
    let options = list(from, "option", |from, what| Ok((text(from, what)?, text(from, what)?)))?;
    let mut setup = Setup::new(Options::new(options), facts);
    setup.state = state.into();
    Ok(setup)
}

/// Writes a tag, without its payload, which follows.
pub fn put_tag(to: &mut Vec<u8>, tag: &Tag) {
    let header = &tag.header;
    to.put_u8(tag.kind.0);
    to.put_i64(tag.dts.0);
    to.put_u8(u8::from(header.keyframe) | u8::from(tag.discontinuity) << 1);
    to.put_u8(tag.tracks.0);
    to.put_u32(header.codec.0);
    to.put_u8(header.packet.0);
    to.put_i64(header.composition_offset.0);
    to.put_u32(header.data_offset);
    to.put_u32(header.data_len);
}

/// A tag, with the rest of the body as its payload.
pub fn tag(mut from: Bytes) -> Read<Tag> {
    let what = "tag";
    let from = &mut from;
    let kind = TagKind(u8(from, what)?);
    let mut tag = Tag::new(kind, Millis(i64(from, what)?), Bytes::new());
    let flags = u8(from, what)?;
    tag.header.keyframe = flags & 1 != 0;
    tag.discontinuity = flags & 2 != 0;
    tag.tracks = Tracks(u8(from, what)?);
    tag.header.codec = Codec(u32(from, what)?);
    tag.header.packet = Packet(u8(from, what)?);
    tag.header.composition_offset = Millis(i64(from, what)?);
    tag.header.data_offset = u32(from, what)?;
    tag.header.data_len = u32(from, what)?;
    tag.payload = from.split_off(0);
    Ok(tag)
}

// From the module's process.

/// What a module is, as its process tells it.
pub struct Described {
    /// What the module says of itself, to be checked.
    pub info: RawInfo,
    /// The version of the interface that it was built for.
    pub abi: (u16, u16),
    /// Its compiler.
    pub rustc: String,
    /// Which protections the kernel does not have.
    pub missing: Vec<String>,
}

/// The frame that describes a module.
pub fn describe(module: &Module, missing: &[String]) -> Vec<u8> {
    let put_text = |to: &mut Vec<u8>, text: &str| put_bytes(to, text.as_bytes());
    let mut to = frame(kind::DESCRIBED);
    to.put_u16(module.abi().0);
    to.put_u16(module.abi().1);
    put_text(&mut to, module.rustc());
    put_list(&mut to, missing, |to, text| put_text(to, text));
    for text in [module.name(), module.version(), module.content_type()] {
        put_text(&mut to, text);
    }
    put_list(&mut to, module.extensions(), |to, text| put_text(to, text));
    put_list(&mut to, module.video_codecs(), |to, codec| to.put_u32(codec.0));
    put_list(&mut to, module.audio_codecs(), |to, codec| to.put_u32(codec.0));
    to.put_u8(module.transport().0);
    put_list(&mut to, module.options(), |to, option| {
        for text in [&option.name, &option.default, &option.doc] {
            put_text(to, text);
        }
        let (kind, min, max, choices) = match &option.kind {
            OwnedOptionKind::Flag => (OPTION_FLAG, 0, 0, &[][..]),
            OwnedOptionKind::Integer { min, max } => (OPTION_INTEGER, *min, *max, &[][..]),
            OwnedOptionKind::Choice(words) => (OPTION_CHOICE, 0, 0, &words[..]),
            OwnedOptionKind::Text => (OPTION_TEXT, 0, 0, &[][..]),
        };
        to.put_u8(kind);
        to.put_i64(min);
        to.put_i64(max);
        put_list(to, choices, |to, word| put_text(to, word));
        to.put_u8(option.variant.into());
    });
    seal(&mut to, 0);
    to
}

/// The body of a frame that describes a module.
pub fn described(mut from: Bytes) -> Read<Described> {
    let from = &mut from;
    let half = |from: &mut Bytes| from.try_get_u16().or_else(|_| malformed("version"));
    let abi = (half(from)?, half(from)?);
    let rustc = one_line(&text(from, "compiler")?);
    let missing = list(from, "protection", text)?.iter().map(|text| one_line(text)).collect();
    let (name, version, content_type) =
        (text(from, "name")?, text(from, "version")?, text(from, "content type")?);
    let extensions = list(from, "extension", text)?;
    let (video_codecs, audio_codecs) = (list(from, "codec", u32)?, list(from, "codec", u32)?);
    let transport = u8(from, "transport")?;
    let options = list(from, "option", |from, what| {
        Ok(RawOption {
            name: text(from, what)?.into(),
            default: text(from, what)?.into(),
            doc: text(from, what)?.into(),
            kind: u8(from, what)?,
            min: i64(from, what)?,
            max: i64(from, what)?,
            choices: list(from, what, text)?.into_iter().map(Into::into).collect(),
            variant: u8(from, what)?,
            reserved_u8: [0; 6],
            reserved: [0; 4],
        })
    })?;
    if !from.is_empty() {
        return malformed("description");
    }
    let info = RawInfo {
        name: name.into(),
        version: version.into(),
        content_type: content_type.into(),
        extensions: extensions.into_iter().map(Into::into).collect(),
        video_codecs: video_codecs.into(),
        audio_codecs: audio_codecs.into(),
        options: options.into(),
        transport,
        reserved_u8: [0; 7],
        reserved: [0; 8],
    };
    Ok(Described { info, abi, rustc, missing })
}

/// A frame of text: why a module was refused, or, after its level, a line for the log.
pub fn line(kind: u8, level: Option<u8>, text: &str) -> Vec<u8> {
    let mut to = frame(kind);
    to.extend(level);
    let end = text.floor_char_boundary(MAX_TEXT);
    to.extend_from_slice(&text.as_bytes()[..end]);
    seal(&mut to, 0);
    to
}

/// The body of a `LOG`: level and line.
pub fn logged(mut from: Bytes) -> Read<(u8, String)> {
    Ok((u8(&mut from, "level")?, words(&from)?))
}

/// The body of a `REFUSED`, and other text for people.
pub fn words(from: &[u8]) -> Read<String> {
    if from.len() > MAX_TEXT { malformed("text") } else { Ok(one_line(&String::from_utf8_lossy(from))) }
}

/// The frame that answers a call: how it went, and what it made. Parts that lie in `payload` go as its ranges.
pub fn done(result: &Result<(), ModuleFault>, blocks: &[OutBlock], payload: &Bytes) -> Vec<u8> {
    let mut to = frame(kind::DONE);
    put_fault(&mut to, result.as_ref().err());
    for block in blocks {
        to.put_u8(block.flags.0);
        to.put_u8(block.track);
        to.put_i64(block.dts.0);
        put_list(&mut to, &block.parts, |to, bytes| match offset(bytes, payload) {
            Some(offset) => {
                to.put_u8(part::PAYLOAD);
                to.put_u32(bytes.len() as u32);
                to.put_u32(offset as u32);
            }
            None => {
                to.put_u8(part::BYTES);
                put_bytes(to, bytes);
            }
        });
    }
    seal(&mut to, 0);
    to
}

/// Where in `payload` the bytes lie, not their equals.
fn offset(bytes: &[u8], payload: &[u8]) -> Option<usize> {
    let (part, whole) = (bytes.as_ptr_range(), payload.as_ptr_range());
    let within = !bytes.is_empty() && whole.start <= part.start && part.end <= whole.end;
    within.then(|| part.start as usize - whole.start as usize)
}

/// Reads the body of an answer: the blocks go to `intake`, parts of `payload` shared with it. The outer error is of the
/// answer, the inner one of the call.
pub fn answer(mut from: Bytes, payload: &Bytes, intake: &mut Intake<'_>) -> Read<Result<(), ModuleFault>> {
    let from = &mut from;
    let result = read_fault(from)?;
    while !from.is_empty() {
        let (flags, track) = (u8(from, "flags")?, u8(from, "track")?);
        let head = BlockHead { flags, track, dts: i64(from, "time")? };
        let count = u32(from, "parts")? as usize;
        let mut parts = SmallVec::<[Bytes; 4]>::new();
        // A part takes more memory than it may take bytes here: those beyond the budget are not even read.
        for _ in 0..if intake.has_room(count) { count } else { 0 } {
            parts.push(read_part(from, payload)?);
        }
        let bytes = parts.iter().map(Bytes::len).sum();
        let own = || parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !intake.take(head, count, bytes, own) {
            break;
        }
    }
    Ok(result)
}

fn read_part(from: &mut Bytes, payload: &Bytes) -> Read<Bytes> {
    let what = "part";
    match u8(from, what)? {
        part::BYTES => bytes(from, what),
        part::PAYLOAD => {
            let (len, offset) = (u32(from, what)? as usize, u32(from, what)? as usize);
            match offset.checked_add(len) {
                Some(end) if end <= payload.len() => Ok(payload.slice(offset..end)),
                _ => malformed(what),
            }
        }
        _ => malformed(what),
    }
}

/// The frame that answers with a remuxer's state.
pub fn put_state(state: &Result<Vec<u8>, ModuleFault>) -> Vec<u8> {
    let mut to = frame(kind::STATE);
    put_fault(&mut to, state.as_ref().err());
    to.extend_from_slice(state.as_deref().unwrap_or_default());
    seal(&mut to, 0);
    to
}

/// A remuxer's state. The outer error is of the answer, the inner one of the call.
pub fn state(mut from: Bytes) -> Read<Result<Vec<u8>, ModuleFault>> {
    let result = read_fault(&mut from)?;
    Ok(result.map(|()| from.into()))
}

fn put_fault(to: &mut Vec<u8>, fault: Option<&ModuleFault>) {
    let Some(fault) = fault else { return to.put_u8(fault::NONE) };
    let (tag, number, message): (u8, usize, &str) = match fault {
        ModuleFault::Panicked { message } => (fault::PANICKED, 0, message),
        ModuleFault::Remux { message } => (fault::REMUX, 0, message),
        ModuleFault::Unsupported { message } => (fault::UNSUPPORTED, 0, message),
        ModuleFault::Flooded { limit } => (fault::FLOODED, *limit, ""),
        ModuleFault::LargeState { size, .. } => (fault::LARGE_STATE, *size, ""),
        ModuleFault::BadFlags { flags } => (fault::BAD_FLAGS, usize::from(*flags), ""),
        ModuleFault::BadTrack { track } => (fault::BAD_TRACK, usize::from(*track), ""),
        // No other happens to a remuxer in its own process.
        _ => (fault::POISONED, 0, ""),
    };
    to.put_u8(tag);
    to.put_u64(number as u64);
    put_bytes(to, message.as_bytes());
}

fn read_fault(from: &mut Bytes) -> Read<Result<(), ModuleFault>> {
    let what = "fault";
    let tag = u8(from, what)?;
    if tag == fault::NONE {
        // And no more: the answer is kept as long as a block of it is, so all of it must count against the budget.
        return Ok(Ok(()));
    }
    let number = from.try_get_u64().or_else(|_| malformed(what))? as usize;
    let message = words(&bytes(from, what)?)?;
    Ok(Err(match tag {
        fault::PANICKED => ModuleFault::Panicked { message },
        fault::REMUX => ModuleFault::Remux { message },
        fault::UNSUPPORTED => ModuleFault::Unsupported { message },
        fault::FLOODED => ModuleFault::Flooded { limit: number },
        fault::LARGE_STATE => {
            ModuleFault::LargeState { size: number, limit: crate::module::instance::MAX_STATE }
        }
        fault::BAD_FLAGS => ModuleFault::BadFlags { flags: number as u8 },
        fault::BAD_TRACK => ModuleFault::BadTrack { track: number as u8 },
        fault::POISONED => ModuleFault::Poisoned,
        _ => return malformed(what),
    }))
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{BlockFlags, Transport};

    use super::super::properties::{PAYLOAD, body_of as body, check_wire, read_answer};
    use super::*;

    fn block(flags: BlockFlags, parts: &[Bytes]) -> OutBlock {
        OutBlock { flags, track: 3, dts: Millis(-7), parts: parts.into() }
    }

    #[test]
    fn a_setup_and_a_tag_come_over_whole() {
        let options = Options::new(vec![("a".into(), "1".into()), ("b".into(), String::new())]);
        let mut given = Setup::new(options, StreamFacts::new(Codec::H264, Codec::AAC, 4000));
        given.state = b"state".to_vec();
        let mut make = about(kind::MAKE, 7);
        put_setup(&mut make, &given);
        seal(&mut make, 0);
        let mut make = body(make, kind::MAKE);
        assert_eq!(number(&mut make), Ok(7));
        let setup = setup(&mut make).unwrap();
        assert_eq!((&setup.options, &setup.state), (&given.options, &given.state));
        assert_eq!(
            (setup.stream.video, setup.stream.audio, setup.stream.age_ms),
            (Codec::H264, Codec::AAC, 4000)
        );

        let payload = Bytes::from_static(b"\x17\x01\0\0\x28\0\0\0\x02\x65\x09");
        let mut given = Tag::new(TagKind::VIDEO, Millis(-40), payload.clone());
        given.discontinuity = true;
        given.tracks = Tracks::known(true, false);
        let mut frame = about(kind::TAG, 7);
        put_tag(&mut frame, &given);
        seal(&mut frame, payload.len());
        frame.extend_from_slice(&payload);
        let mut frame = body(frame, kind::TAG);
        number(&mut frame).unwrap();
        let tag = tag(frame).unwrap();
        assert_eq!((tag.kind, tag.dts, tag.discontinuity), (TagKind::VIDEO, Millis(-40), true));
        assert_eq!((tag.header, tag.tracks, tag.payload), (given.header, given.tracks, payload));
    }

    #[test]
    fn blocks_come_over_and_a_payload_does_not_travel() {
        let payload = Bytes::from_static(PAYLOAD);
        let parts = [Bytes::from_static(b"head"), payload.slice(2..5), Bytes::from(PAYLOAD.to_vec())];
        let blocks = [block(BlockFlags::JOIN, &parts), block(BlockFlags::NONE, &[])];
        let frame = done(&Ok(()), &blocks, &payload);
        let (result, fault, out) = read_answer(10_000, body(frame.clone(), kind::DONE));
        assert_eq!((result, fault), (Ok(Ok(())), None));
        assert_eq!(out[0].parts, blocks[0].parts);
        assert_eq!(out[0].parts[1].as_ptr(), payload[2..].as_ptr(), "shared");
        assert_eq!((out[0].flags, out[0].track, out[0].dts), (BlockFlags::JOIN, 3, Millis(-7)));
        assert!(out[1].parts.is_empty());
        // Part 3 has the same bytes elsewhere, and does travel.
        assert!(
            frame.windows(10).any(|bytes| bytes == PAYLOAD)
                && !frame.windows(3).any(|bytes| bytes == b"5672")
        );
    }

    #[test]
    fn the_rules_hold_on_this_side_too() {
        let payload = Bytes::from_static(PAYLOAD);
        let three = [
            block(BlockFlags(0), std::slice::from_ref(&payload)),
            block(BlockFlags(8), &[]),
            block(BlockFlags(0), &[]),
        ];
        let (_, fault, out) = read_answer(10_000, body(done(&Ok(()), &three, &payload), kind::DONE));
        assert_eq!((out.len(), fault), (1, Some(ModuleFault::BadFlags { flags: 8 })));
        let (_, fault, out) = read_answer(200, body(done(&Ok(()), &three[..1], &payload), kind::DONE));
        assert_eq!((out.len(), fault), (0, Some(ModuleFault::Flooded { limit: 200 })));
    }

    #[test]
    fn parts_over_the_budget_are_not_even_read() {
        let mut answer = vec![fault::NONE, 0, 0];
        answer.put_i64(40);
        answer.put_u32(u32::MAX);
        // Few of them are there: that would be another fault, had they been read.
        answer.extend([part::BYTES, 0, 0, 0, 0].repeat(1000));
        let (result, fault, out) = read_answer(100_000, answer.into());
        assert_eq!(
            (result, out.len(), fault),
            (Ok(Ok(())), 0, Some(ModuleFault::Flooded { limit: 100_000 }))
        );
    }

    #[test]
    fn faults_come_over() {
        let message = || "a b".to_owned();
        for fault in [
            ModuleFault::Panicked { message: message() },
            ModuleFault::Remux { message: message() },
            ModuleFault::Unsupported { message: message() },
            ModuleFault::Flooded { limit: 5 },
            ModuleFault::LargeState { size: 1 << 20, limit: 64 << 10 },
            ModuleFault::BadFlags { flags: 200 },
            ModuleFault::BadTrack { track: 9 },
            ModuleFault::Poisoned,
        ] {
            let (result, ..) =
                read_answer(0, body(done(&Err(fault.clone()), &[], &Bytes::new()), kind::DONE));
            assert_eq!(result, Ok(Err(fault.clone())));
            assert_eq!(state(body(put_state(&Err(fault.clone())), kind::STATE)), Ok(Err(fault)));
        }
        assert_eq!(state(body(put_state(&Ok(vec![1, 2])), kind::STATE)), Ok(Ok(vec![1, 2])));
    }

    #[test]
    fn lines_are_cut_and_made_fit_for_the_log() {
        let long = "a\n\u{1b}[1m".to_owned() + &"\u{e9}".repeat(MAX_TEXT);
        let (level, line) = logged(body(super::line(kind::LOG, Some(2), &long), kind::LOG)).unwrap();
        assert!(level == 2 && line.starts_with("a [1m\u{e9}") && line.len() < MAX_TEXT, "{line}");
        assert_eq!(words(b"no\xff\n good").as_deref(), Ok("no\u{fffd} good"));
        assert!(words(&[b'x'; MAX_TEXT]).is_ok() && words(&[b'x'; MAX_TEXT + 1]).is_err());
    }

    /// A description with one of everything.
    fn description() -> Bytes {
        let mut to = frame(kind::DESCRIBED);
        to.put_u32(0x0001_0001);
        put_bytes(&mut to, b"rustc 1");
        put_list(&mut to, &["Landlock: no"], |to, text| put_bytes(to, text.as_bytes()));
        ["name", "1.0", "a/b"].iter().for_each(|text| put_bytes(&mut to, text.as_bytes()));
        put_list(&mut to, &["ext"], |to, text| put_bytes(to, text.as_bytes()));
        put_list(&mut to, &[Codec::H264], |to, codec| to.put_u32(codec.0));
        put_list(&mut to, &[] as &[Codec], |to, codec| to.put_u32(codec.0));
        to.put_u8(Transport::WEBSOCKET.0);
        put_list(&mut to, &["option"], |to, name| {
            [name, "x", "doc"].iter().for_each(|text| put_bytes(to, text.as_bytes()));
            to.put_u8(OPTION_CHOICE);
            to.put_i64(-1);
            to.put_i64(1);
            put_list(to, &["x", "y"], |to, word| put_bytes(to, word.as_bytes()));
            to.put_u8(1);
        });
        seal(&mut to, 0);
        body(to, kind::DESCRIBED)
    }

    #[test]
    fn a_description_comes_over_or_is_refused_at_every_length() {
        let whole = description();
        let Described { info, abi, rustc, missing } = described(whole.clone()).unwrap();
        assert_eq!((abi, &*rustc, &*missing), ((1, 1), "rustc 1", &["Landlock: no".to_owned()][..]));
        assert_eq!((&*info.name, &*info.version, &*info.content_type), ("name", "1.0", "a/b"));
        assert_eq!(
            (info.extensions.len(), &info.video_codecs[..], info.transport),
            (1, &[Codec::H264.0][..], 1)
        );
        let option = &info.options[0];
        assert_eq!((&*option.name, option.min, option.max, option.choices.len()), ("option", -1, 1, 2));
        for len in 0..whole.len() {
            assert!(described(whole.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn an_answer_is_refused_where_it_is_cut() {
        let payload = Bytes::from_static(PAYLOAD);
        let parts = [Bytes::from_static(b"head"), payload.slice(2..5)];
        let whole = body(done(&Ok(()), &[block(BlockFlags::JOIN, &parts)], &payload), kind::DONE);
        let no_blocks = body(done(&Ok(()), &[], &payload), kind::DONE).len();
        for len in 0..whole.len() {
            let (result, _, out) = read_answer(10_000, whole.slice(..len));
            assert_eq!((result.is_ok(), out.len()), (len == no_blocks, 0), "{len} bytes");
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused() {
        let (payload, mut seed) = (Bytes::from_static(PAYLOAD), 1_u64);
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        let parts = [Bytes::from_static(b"head"), payload.slice(2..5)];
        let answer = body(done(&Ok(()), &[block(BlockFlags::JOIN, &parts)], &payload), kind::DONE);
        for whole in [answer, description()] {
            for _ in 0..5_000 {
                let mut bytes = whole.to_vec();
                for _ in 0..=random() % 4 {
                    let at = random() % bytes.len();
                    bytes[at] = [random() as u8, 0, 1, 0xff][random() % 4];
                }
                check_wire(1000, &bytes);
            }
        }
    }
}

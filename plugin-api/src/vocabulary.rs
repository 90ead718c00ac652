//! Types that host and modules share. Open sets are transparent integers, so that a newer peer may send a value that an
//! older one does not know.

use std::fmt;

use crate::abi::{TRACKS_AUDIO, TRACKS_KNOWN, TRACKS_VIDEO};

/// A point on a stream's timeline, or a duration, in milliseconds.
///
/// The host's timeline starts near 0 when a stream is published and never wraps. It steps back at most as far as the publisher
/// interleaves audio and video.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

/// The type of a tag, with the numbers of FLV tag types (FLV 10.1, E.4.1).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TagKind(pub u8);

impl TagKind {
    /// Audio data.
    pub const AUDIO: TagKind = TagKind(8);
    /// Video data.
    pub const VIDEO: TagKind = TagKind(9);
    /// Script data: AMF0 values such as `onMetaData`.
    pub const SCRIPT: TagKind = TagKind(18);
}

impl fmt::Debug for TagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TagKind::AUDIO => f.write_str("audio"),
            TagKind::VIDEO => f.write_str("video"),
            TagKind::SCRIPT => f.write_str("script"),
            TagKind(other) => write!(f, "tag kind {other}"),
        }
    }
}

/// A codec, identified by its FourCC of enhanced RTMP v2, big-endian.
///
/// Legacy FLV codec numbers are translated: AVC is `avc1`, legacy HEVC (id 12) is `hvc1`, AAC is `mp4a`.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Codec(pub u32);

impl Codec {
    /// No codec: the track is absent or not yet known.
    pub const NONE: Codec = Codec(0);
    /// H.264 / AVC.
    pub const H264: Codec = Codec::fourcc(b"avc1");
    /// H.265 / HEVC.
    pub const HEVC: Codec = Codec::fourcc(b"hvc1");
    /// H.266 / VVC.
    pub const VVC: Codec = Codec::fourcc(b"vvc1");
    /// VP8.
    pub const VP8: Codec = Codec::fourcc(b"vp08");
    /// VP9.
    pub const VP9: Codec = Codec::fourcc(b"vp09");
    /// AV1.
    pub const AV1: Codec = Codec::fourcc(b"av01");
    /// Sorenson H.263 (FLV codec id 2).
    pub const H263: Codec = Codec::fourcc(b"s263");
    /// On2 VP6 (FLV codec ids 4 and 5).
    pub const VP6: Codec = Codec::fourcc(b"vp6f");
    /// AAC, all profiles.
    pub const AAC: Codec = Codec::fourcc(b"mp4a");
    /// MPEG audio layer III.
    pub const MP3: Codec = Codec::fourcc(b".mp3");
    /// Opus.
    pub const OPUS: Codec = Codec::fourcc(b"Opus");
    /// FLAC.
    pub const FLAC: Codec = Codec::fourcc(b"fLaC");
    /// AC-3.
    pub const AC3: Codec = Codec::fourcc(b"ac-3");
    /// Enhanced AC-3.
    pub const EAC3: Codec = Codec::fourcc(b"ec-3");
    /// Speex (FLV sound format 11).
    pub const SPEEX: Codec = Codec::fourcc(b"spex");
    /// G.711 A-law (FLV sound format 7).
    pub const ALAW: Codec = Codec::fourcc(b"alaw");
    /// G.711 mu-law (FLV sound format 8).
    pub const ULAW: Codec = Codec::fourcc(b"ulaw");
    /// Nellymoser (FLV sound formats 4, 5 and 6).
    pub const NELLYMOSER: Codec = Codec::fourcc(b"nmos");
    /// Uncompressed PCM or ADPCM (FLV sound formats 0, 1 and 3).
    pub const PCM: Codec = Codec::fourcc(b"pcm ");

    /// Returns the codec with this FourCC.
    pub const fn fourcc(code: &[u8; 4]) -> Codec {
        Codec(u32::from_be_bytes(*code))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Codec::NONE {
            return f.write_str("none");
        }
        for byte in self.0.to_be_bytes() {
            write!(f, "{}", char::from(byte).escape_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The meaning of a tag's payload to a decoder.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Packet(pub u8);

impl Packet {
    /// Anything else: script data other than metadata, commands, and types that the host does not know.
    pub const OTHER: Packet = Packet(0);
    /// A sequence header: the decoder configuration record of the codec.
    pub const SEQUENCE_HEADER: Packet = Packet(1);
    /// One access unit. It may be empty: a zero-length audio message means silence.
    pub const CODED_FRAME: Packet = Packet(2);
    /// The end of a sequence.
    pub const SEQUENCE_END: Packet = Packet(3);
    /// Metadata: `onMetaData` in a script tag, colour information in a video tag, MultichannelConfig in an audio tag. A host
    /// before 1.5 reports the last as `OTHER`.
    pub const METADATA: Packet = Packet(4);
}

/// The tracks that a stream has at one of its tags, as the host decides for all modules and viewers. Since ABI 1.4.
///
/// A track is present from its first frame on, video from its first keyframe. It becomes absent again when the other track
/// continues without it for some time (currently 10 s on the stream's timeline), or when another publisher of the stream does
/// not begin it soon (currently within 1 s). Video that was absent returns at a keyframe; the host drops video frames
/// before that. While video is absent, viewers join at audio frames: mark these as [`JOIN`](BlockFlags::JOIN). A host before
/// 1.5 reports a track from its sequence header on, and never reports that audio has become absent.
///
/// A host before 1.4 reports [`UNKNOWN`](Self::UNKNOWN). A module then treats each track that it has seen as present,
/// and does not mark audio frames of a stream with video as join points.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tracks(pub u8);

impl Tracks {
    /// Not reported: the host is older than 1.4.
    pub const UNKNOWN: Tracks = Tracks(0);

    /// Returns the value for these tracks and no others.
    pub const fn known(audio: bool, video: bool) -> Tracks {
        let audio = if audio { TRACKS_AUDIO } else { 0 };
        let video = if video { TRACKS_VIDEO } else { 0 };
        Tracks(TRACKS_KNOWN | audio | video)
    }

    /// Returns whether the stream has audio; `None` if not reported.
    pub const fn audio(self) -> Option<bool> {
        self.has(TRACKS_AUDIO)
    }

    /// Returns whether the stream has video; `None` if not reported.
    pub const fn video(self) -> Option<bool> {
        self.has(TRACKS_VIDEO)
    }

    const fn has(self, track: u8) -> Option<bool> {
        if self.0 & TRACKS_KNOWN == 0 {
            None
        } else {
            Some(self.0 & track != 0)
        }
    }
}

/// The way that blocks reach a viewer.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transport(pub u8);

impl Transport {
    /// The body of one unending HTTP response.
    pub const HTTP: Transport = Transport(0);
    /// Binary messages of a WebSocket on the same URL.
    pub const WEBSOCKET: Transport = Transport(1);
}

/// Flags of a [`Block`](crate::Block): one of them at most.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockFlags(pub u8);

impl BlockFlags {
    /// Media at which no viewer may start.
    pub const NONE: BlockFlags = BlockFlags(0);
    /// Data for the start of a response only, such as the FLV file header. A viewer that joins gets the newest one.
    ///
    /// Since 1.5 a remuxer's second preamble ends the responses that began with an earlier one, cleanly, just before it. Write
    /// one when the start of the format no longer describes the stream, for example because a track was added; players
    /// request the stream again. The remuxer ends too, and the next request starts another. The first preamble of a
    /// successor does not end responses. A host before 1.5 keeps responses connected, and viewers that join later get the
    /// newest preamble; so do newer hosts with modules built for older versions.
    pub const PREAMBLE: BlockFlags = BlockFlags(1);
    /// An in-band decoder configuration. Current viewers get it; a viewer that joins gets the newest one of each
    /// [`track`](crate::Block::track) before its join block.
    pub const CONFIG: BlockFlags = BlockFlags(2);
    /// A join point: preamble, configurations and the stream from this block on decode without anything else.
    pub const JOIN: BlockFlags = BlockFlags(4);

    /// Returns whether all flags of `other` are set.
    pub const fn contains(self, other: BlockFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the flags of both.
    #[must_use]
    pub const fn with(self, other: BlockFlags) -> BlockFlags {
        BlockFlags(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_are_known_or_not() {
        let rows = [
            (Tracks::UNKNOWN, None, None),
            // Without `TRACKS_KNOWN` the other bits have no meaning.
            (Tracks(TRACKS_AUDIO | TRACKS_VIDEO), None, None),
            (Tracks::known(false, false), Some(false), Some(false)),
            (Tracks::known(true, false), Some(true), Some(false)),
            (Tracks::known(false, true), Some(false), Some(true)),
        ];
        for (tracks, audio, video) in rows {
            assert_eq!((tracks.audio(), tracks.video()), (audio, video), "{tracks:?}");
        }
    }
}

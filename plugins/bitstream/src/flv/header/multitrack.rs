//! Multitrack framing: several tracks in one body, each with its number (enhanced RTMP v2, AvMultitrackType).

use remuxd_plugin_api::{Codec, TagKind};

use super::{Fields, TagHeader, read_packet};

/// `AvMultitrackType`: one track without size; several tracks of one codec; several tracks, each with its codec.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_CODECS: u8 = 2;

/// Maximum number of tracks that are read of a body: as many as there are numbers.
const MAX_TRACKS: u16 = 256;

/// The tracks of a body: number and header, in their order, up to one that is cut, at most [`MAX_TRACKS`]. A track whose packet cannot be parsed is
/// [`Packet::OTHER`](remuxd_plugin_api::Packet::OTHER).
pub(super) struct Multitrack<'a> {
    fields: Fields<'a>,
    framing: u8,
    packet_type: u8,
    kind: TagKind,
    keyframe: bool,
    /// Number of further tracks that may be read.
    left: u16,
    /// The header of the body, with the codec of [`ONE_TRACK`] and [`MANY_TRACKS`].
    common: TagHeader,
}

impl<'a> Multitrack<'a> {
    /// Reads the framing that follows the packet types.
    pub(super) fn read(
        mut fields: Fields<'a>,
        kind: TagKind,
        keyframe: bool,
        header: TagHeader,
    ) -> Option<Multitrack<'a>> {
        let first = fields.u8()?;
        let (framing, packet_type) = (first >> 4, first & 0x0f);
        let codec = match framing {
            ONE_TRACK | MANY_TRACKS => fields.codec()?,
            MANY_CODECS => Codec::NONE,
            _ => return None,
        };
        let common = TagHeader { codec, ..header };
        Some(Multitrack { fields, framing, packet_type, kind, keyframe, left: MAX_TRACKS, common })
    }

    /// Returns the header of the body, for a body that lacks the wanted track.
    pub(super) fn header(&self) -> TagHeader {
        TagHeader { codec: Codec::NONE, ..self.common }
    }

    fn read_track(&mut self) -> Option<(u8, TagHeader)> {
        self.left = self.left.checked_sub(1)?;
        let fields = &mut self.fields;
        let codec = if self.framing == MANY_CODECS { fields.codec()? } else { self.common.codec };
        let track = fields.u8()?;
        let size = match self.framing {
            ONE_TRACK => fields.body.len() - fields.at,
            _ => fields.u24()? as usize,
        };
        let end = fields.at.checked_add(size).filter(|end| *end <= fields.body.len())?;
        let header = TagHeader { codec, ..self.common };
        let packet = read_packet(fields, end, self.kind, self.packet_type, self.keyframe, header);
        fields.at = end;
        Some((track, packet.unwrap_or(header)))
    }
}

impl Iterator for Multitrack<'_> {
    type Item = (u8, TagHeader);

    fn next(&mut self) -> Option<(u8, TagHeader)> {
        let more = self.fields.at < self.fields.body.len();
        let track = more.then(|| self.read_track()).flatten();
        if track.is_none() {
            self.fields.at = self.fields.body.len();
        }
        track
    }
}

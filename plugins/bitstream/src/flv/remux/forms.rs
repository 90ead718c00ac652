//! The forms in which tags are written: legacy or enhanced headers, and which metadata of a track are passed on.

use remuxd_plugin_api::{Codec, Options, Packet, Tag, TagKind};

use super::{COLOR_INFO, HEVC_FORM, MULTICHANNEL};
use crate::flv::{
    TagHeader, enhanced_audio_header, enhanced_video_header, legacy_audio_header, legacy_video_header,
};

/// The form of the tags of a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    AsPublished,
    Legacy,
    Enhanced,
}

/// The forms that the options ask for.
#[derive(Debug)]
pub(super) struct Forms {
    hevc: Form,
    color_info: bool,
    multichannel: bool,
}

/// How a tag's codec header is written.
pub(super) enum Rewrite {
    /// As it is, with the data.
    Keep,
    /// As this one.
    Header(Vec<u8>),
    /// Not at all: there is no such form, or the options exclude the tag.
    Drop,
}

impl Forms {
    pub(super) fn new(options: &Options) -> Forms {
        let hevc = match options.text(HEVC_FORM) {
            "legacy" => Form::Legacy,
            "enhanced" => Form::Enhanced,
            _ => Form::AsPublished,
        };
        Forms { hevc, color_info: options.flag(COLOR_INFO), multichannel: options.flag(MULTICHANNEL) }
    }

    /// Returns whether tags of a codec are written in the enhanced form. `published` is whether they are published in it.
    pub(super) fn is_enhanced(&self, codec: Codec, published: bool) -> bool {
        match self.form(codec) {
            Form::AsPublished => published,
            form => form == Form::Enhanced,
        }
    }

    /// Returns how to write the tag's codec header.
    pub(super) fn rewrite(&self, tag: &Tag) -> Rewrite {
        // The payload's first track need not be the one that the tag describes.
        let header = TagHeader {
            codec: tag.codec,
            packet: tag.packet,
            keyframe: tag.keyframe,
            composition_offset: tag.composition_offset,
            ..TagHeader::parse(tag.kind, &tag.payload)
        };
        let video = tag.kind == TagKind::VIDEO;
        let form = self.form(header.codec);
        match form {
            _ if header.packet == Packet::METADATA && !self.passes_metadata(tag) => Rewrite::Drop,
            Form::Legacy if header.enhanced => {
                let legacy = if video { legacy_video_header(&header) } else { legacy_audio_header(&header) };
                legacy.map_or(Rewrite::Drop, Rewrite::Header)
            }
            Form::Enhanced if !header.enhanced => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.wrapped && video => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.wrapped => Rewrite::Header(enhanced_audio_header(&header)),
            _ => Rewrite::Keep,
        }
    }

    fn passes_metadata(&self, tag: &Tag) -> bool {
        if tag.kind == TagKind::VIDEO {
            return self.color_info;
        }
        // Channel order, number of channels, layout.
        self.multichannel && tag.data().get(1).is_some_and(|channels| *channels > 2)
    }

    fn form(&self, codec: Codec) -> Form {
        match codec {
            Codec::HEVC => self.hevc,
            Codec::H264 | Codec::AAC | Codec::MP3 => Form::Legacy,
            _ => Form::AsPublished,
        }
    }
}

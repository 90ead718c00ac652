//! FLV: the syntax of files and of tags, and the remuxer that both FLV modules share.
//!
//! A tag's body is also the payload of an RTMP audio, video or data message, so the host uses [`TagHeader`] too.
//! Specifications: Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP v2 (Veovera).

mod file;
mod header;
mod metadata;
mod prologue;
mod remux;

pub use file::{
    FILE_HEADER_LEN, FileError, FileTag, FileTags, file_header, read_file, tag_header, write_file,
};
pub use header::{
    MAX_CONFIGURATION, TagHeader, codec_id, enhanced_audio_header, enhanced_video_header,
    legacy_audio_header, legacy_video_header, needs_configuration, read_tag,
};
pub use metadata::{Announcement, Metadata};
pub use prologue::{MAX_TAGS, PrologueReader};
pub use remux::{
    AUDIO_CODECS, COLOR_INFO, FlvRemuxer, HEADER_WAIT, HEVC_FORM, MULTICHANNEL, OPTIONS, VIDEO_CODECS,
};

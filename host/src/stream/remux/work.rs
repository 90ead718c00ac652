//! Work: what a remux job keeps from one turn to the next.

use crate::media::{Packet, Tag, TagKind, Tracks};
use crate::module::Module;
use crate::stream::entries::config_slot;
use crate::stream::remuxer::CheckedRemuxer;
use crate::stream::ring::Reader;
use crate::stream::tracks::Codecs;

/// The working set of a job.
#[derive(Debug)]
pub(super) struct Work {
    pub tags: Reader<Tag>,
    pub remuxer: Option<CheckedRemuxer>,
    /// The configurations in force, by slot, as they came.
    pub configs: Vec<(u8, Tag)>,
    /// Codecs at the position of `tags`, which lag behind those of the stream.
    codecs: Codecs,
    /// Tracks at the position of `tags`, as its newest frame reports them.
    tracks: Tracks,
    /// The format could carry a track at an earlier position.
    carried: bool,
}

impl Work {
    pub fn new(tags: Reader<Tag>) -> Work {
        Work {
            tags,
            remuxer: None,
            configs: Vec::new(),
            codecs: Codecs::default(),
            tracks: Tracks::UNKNOWN,
            carried: false,
        }
    }

    /// Records a configuration for later remuxers.
    pub fn note_config(&mut self, tag: &Tag) {
        if let Some(slot) = config_slot(tag) {
            match self.configs.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => self.configs[at].1 = tag.clone(),
                Err(at) => self.configs.insert(at, (slot, tag.clone())),
            }
        }
    }

    /// Whether from `tag` on the stream has no codec that the format can carry, after having had one.
    pub fn is_beyond(&mut self, tag: &Tag, module: &Module) -> bool {
        self.codecs.add(tag);
        // A configuration that is replayed reports the tracks of an earlier position.
        if config_slot(tag).is_none() {
            let before = std::mem::replace(&mut self.tracks, tag.tracks);
            self.codecs.remove_ended(before, tag.tracks);
        }
        let carries = self.codecs.are_carried_by(module);
        self.carried |= carries;
        self.carried && !carries
    }
}

/// Whether a remuxer of `module` can start at `tag`.
pub(super) fn is_join(tag: &Tag, module: &Module) -> bool {
    if tag.header.packet != Packet::CODED_FRAME {
        return false;
    }
    match tag.kind {
        TagKind::VIDEO => tag.header.keyframe,
        // An empty frame stands for silence.
        _ if tag.header.data_len == 0 => false,
        _ => module.video_codecs().is_empty() || tag.tracks.video() != Some(true),
    }
}

//! Tags in, initialisation segments and fragments out.

use std::mem;

use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Millis, Packet, RemuxError, Remuxer, Setup, SharedBytes, Sink, Tag, TagKind,
};

use crate::boxes::{fragment_head, initialisation, Entry, Run, AUDIO, VIDEO};

/// Duration of the only sample of a track, in milliseconds.
const LAST_DURATION: u32 = 40;

/// Longest duration of a sample, in milliseconds. A longer distance is a gap.
const MAX_DURATION: i64 = 60_000;

/// Tags that wait for the second track are bounded, whatever their timestamps say.
const MAX_WAITING: usize = 1000;

/// One access unit that waits for the next of its track.
#[derive(Debug)]
struct Sample {
    dts: Millis,
    composition_offset: Millis,
    sync: bool,
    data: SharedBytes,
}

#[derive(Debug)]
struct Track {
    id: u32,
    /// The newest decoder configuration.
    config: Option<SharedBytes>,
    /// The configuration in the current initialisation segment.
    announced: Option<SharedBytes>,
    held: Option<Sample>,
    last_duration: u32,
    /// Samples of the current fragment.
    run: Vec<(Sample, u32)>,
}

impl Track {
    fn new(id: u32) -> Track {
        Track { id, config: None, announced: None, held: None, last_duration: LAST_DURATION, run: Vec::new() }
    }

    /// Buffers the next sample; the previous one has its duration now.
    fn hold(&mut self, next: Sample) -> Option<(Sample, u32)> {
        let dts = next.dts;
        let sample = self.held.replace(next)?;
        self.last_duration = (dts.0 - sample.dts.0).clamp(1, MAX_DURATION) as u32;
        Some((sample, self.last_duration))
    }

    fn release(&mut self) -> Option<(Sample, u32)> {
        self.held.take().map(|sample| (sample, self.last_duration))
    }
}

/// Remuxes one stream to fragmented MP4.
#[derive(Debug)]
pub struct Fmp4Remuxer {
    fragment: i64,
    header_wait: i64,
    /// Time of the first access unit.
    started: Option<Millis>,
    /// Access units that wait for the other track.
    waiting: Vec<Tag>,
    known: bool,
    video: Track,
    audio: Track,
    /// Audio that arrived with the first keyframe, before the keyframe's duration was known.
    early: Vec<(Sample, u32)>,
    /// Starts with a keyframe, or has no video.
    starts: bool,
    sequence_number: u32,
}

impl Fmp4Remuxer {
    /// Returns a remuxer for `setup` that continues the fragment numbers of its predecessor.
    pub fn new(setup: &Setup) -> Fmp4Remuxer {
        let state = setup.state.as_slice().try_into().map_or(0, u32::from_be_bytes);
        let header_wait = setup.options.integer("header_wait");
        let stream = &setup.stream;
        let both = stream.video == Codec::H264 && stream.audio == Codec::AAC;
        Fmp4Remuxer {
            fragment: setup.options.integer("fragment_ms"),
            header_wait,
            started: None,
            waiting: Vec::new(),
            known: !both && i64::from(stream.age_ms) >= header_wait,
            video: Track::new(VIDEO),
            audio: Track::new(AUDIO),
            early: Vec::new(),
            starts: false,
            sequence_number: state,
        }
    }

    fn track(&mut self, kind: TagKind) -> &mut Track {
        if kind == TagKind::VIDEO {
            &mut self.video
        } else {
            &mut self.audio
        }
    }

    /// Returns whether no further track is to be expected soon.
    fn is_ready(&mut self, now: Millis) -> bool {
        let started = *self.started.get_or_insert(now);
        let both = self.video.config.is_some() && self.audio.config.is_some();
        let waited = now.0 - started.0 >= self.header_wait || self.waiting.len() >= MAX_WAITING;
        both || self.known || waited
    }

    fn add(&mut self, kind: TagKind, sample: (Sample, u32), sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let key = kind == TagKind::VIDEO && sample.0.sync;
        let changed = |track: &Track| track.config != track.announced;
        let begins = [&self.video, &self.audio]
            .iter()
            .filter_map(|track| track.run.first())
            .map(|(s, _)| s.dts.0)
            .min();
        let long = begins.is_some_and(|begins| sample.0.dts.0 - begins >= self.fragment);
        let audio_alone = self.video.announced.is_none() && self.video.config.is_none();
        if key || long {
            self.cut(sink)?;
        }
        // A new configuration takes effect at a sample that needs no other.
        if (key || audio_alone) && (changed(&self.video) || changed(&self.audio)) {
            self.cut(sink)?;
            self.announce(sink, sample.0.dts)?;
            self.audio.run = mem::take(&mut self.early);
            self.starts = true;
        }
        if self.track(kind).announced.is_none() {
            let begins = self.video.held.as_ref().is_some_and(|video| video.sync);
            if begins && kind == TagKind::AUDIO {
                self.early.push(sample);
            }
            return Ok(());
        }
        if self.video.run.is_empty() && self.audio.run.is_empty() {
            self.starts = key || audio_alone;
        }
        self.track(kind).run.push(sample);
        Ok(())
    }

    fn announce(&mut self, sink: &mut dyn Sink, dts: Millis) -> Result<(), RemuxError> {
        let (video, audio) = (self.video.config.as_deref(), self.audio.config.as_deref());
        let parts = vec![initialisation(video, audio)?.into()];
        self.video.announced = self.video.config.clone();
        self.audio.announced = self.audio.config.clone();
        Ok(sink.block(Block { flags: BlockFlags::CONFIG, track: 0, dts, parts })?)
    }

    /// Emits the current fragment.
    fn cut(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let mut runs = Vec::new();
        let mut data = Vec::new();
        let mut begins = None;
        for track in [&mut self.video, &mut self.audio] {
            let samples = mem::take(&mut track.run);
            let Some((first, _)) = samples.first() else { continue };
            begins = Some(begins.map_or(first.dts.0, |begins: i64| begins.min(first.dts.0)));
            let decode_time = first.dts.0.max(0) as u64;
            let entries = samples.iter().map(|(sample, duration)| Entry {
                duration: *duration,
                size: sample.data.len() as u32,
                composition_offset: sample.composition_offset.0 as i32,
                sync: sample.sync,
            });
            runs.push(Run { track: track.id, decode_time, entries: entries.collect() });
            data.extend(samples.into_iter().map(|(sample, _)| sample.data));
        }
        let Some(dts) = begins else { return Ok(()) };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let mut parts = vec![fragment_head(self.sequence_number, &runs)?.into()];
        parts.extend(data);
        let flags = if self.starts { BlockFlags::JOIN } else { BlockFlags::NONE };
        Ok(sink.block(Block { flags, track: 0, dts: Millis(dts), parts })?)
    }
}

impl Fmp4Remuxer {
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let data = tag.data();
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                self.track(tag.kind).config = Some(data);
                Ok(())
            }
            Packet::CODED_FRAME => {
                let track = self.track(tag.kind);
                if track.config.is_none() {
                    return Ok(());
                }
                let sync = tag.keyframe || tag.kind == TagKind::AUDIO;
                let sample = Sample { dts: tag.dts, composition_offset: tag.composition_offset, sync, data };
                match track.hold(sample) {
                    Some(sample) => self.add(tag.kind, sample, sink),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Writes the access units that waited.
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.known = true;
        mem::take(&mut self.waiting).iter().try_for_each(|tag| self.write(tag, sink))
    }
}

impl Remuxer for Fmp4Remuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let carried = match tag.kind {
            TagKind::VIDEO => tag.codec == Codec::H264,
            TagKind::AUDIO => tag.codec == Codec::AAC,
            _ => false,
        };
        if !carried || tag.data().is_empty() {
            return Ok(());
        }
        match tag.packet {
            Packet::SEQUENCE_HEADER => self.write(tag, sink)?,
            Packet::CODED_FRAME if self.known => return self.write(tag, sink),
            Packet::CODED_FRAME => self.waiting.push(tag.clone()),
            _ => return Ok(()),
        }
        if !self.waiting.is_empty() && self.is_ready(tag.dts) {
            self.begin(sink)
        } else {
            Ok(())
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.begin(sink)?;
        for kind in [TagKind::VIDEO, TagKind::AUDIO] {
            if let Some(sample) = self.track(kind).release() {
                self.add(kind, sample, sink)?;
            }
        }
        self.cut(sink)
    }

    fn state(&mut self) -> Vec<u8> {
        self.sequence_number.to_be_bytes().into()
    }
}

//! The multiplex: access units in, blocks out.
//!
//! - Tables are a block of [`CONFIG`](BlockFlags::CONFIG): current viewers get each, a viewer that joins gets the newest before its
//!   first access unit. So continuity counters are right for each viewer from its first packet on.
//! - If viewers have packets of a remuxer whose state is not known, as after a fault, the first packet of each PID is marked as a
//!   discontinuity: the counters, the clock and the version of the program map start afresh.
//! - Tables are written at the start, before each random access picture, after each change of the program with a new
//!   version, and every [`TABLES_INTERVAL`] of the program clock.
//! - An access unit is one block; clock references that are due before it are another one. A random access picture is a
//!   join point. If the program has no video, each audio frame is a join point and carries a reference; if it has video
//!   that is absent at present, each audio frame is a join point.
//!
//! ISO/IEC 13818-1 2.4.4 does not define intervals; ETSI TR 101 290 5.2.1 requires tables every 0.5 s.

use std::iter;

use remuxd_plugin_api::{Block, BlockFlags, Millis, RemuxError, Sink};

use crate::audio;
use crate::clock::{Advance, Clock, Ticks};
use crate::packet::{Adaptation, Continuity, write_adaptation, write_unit};
use crate::pes;
use crate::psi::{AudioStream, Program, Tables, VideoStream};

/// Interval of tables in milliseconds of the program clock. Plus one step of the clock and its tolerance, it stays under 500 ms by
/// DTS.
const TABLES_INTERVAL: i64 = 300;

/// The first byte of a state. In versions 1 and 2 a PID could have several types.
const STATE_VERSION: u8 = 3;

/// One access unit, ready for a PES packet.
#[derive(Debug)]
pub(crate) struct Unit<P> {
    /// Video, else audio.
    pub video: bool,
    /// Whether a decoder may start here. Audio at which it may not continues a frame of the previous unit and has no timestamp.
    pub random_access: bool,
    /// Milliseconds of the timeline.
    pub dts: i64,
    /// Not before `dts`.
    pub pts: i64,
    /// Its bytes, in order.
    pub pieces: P,
}

/// The multiplex of one program.
#[derive(Debug, Default)]
pub(crate) struct Mux {
    program: Program,
    tables: Tables,
    video: Continuity,
    audio: Continuity,
    clock: Clock,
    /// The clock at the last tables; `None` if new ones are due at once.
    tables_at: Option<i64>,
    /// Whether viewers have packets from before, so that the start of the clock is a discontinuity.
    restarts: bool,
    /// Whether the last block was tables.
    after_tables: bool,
    /// Whether the host reports that the stream has no video at present. Then every audio frame is a join point.
    pub video_absent: bool,
}

impl Mux {
    /// Returns the streams that the tables name.
    pub(crate) fn program(&self) -> Program {
        self.program
    }

    /// Changes the streams that the tables name, from the next access unit on.
    pub(crate) fn set_program(&mut self, program: Program) {
        if program != self.program {
            if self.clock.parts().is_some() {
                self.tables.version = (self.tables.version + 1) % 32;
                // Another type has another PID, which may have been used before.
                if program.video != self.program.video {
                    self.video = Continuity::afresh();
                }
                if program.audio != self.program.audio {
                    self.audio = Continuity::afresh();
                }
            }
            self.program = program;
            self.tables_at = None;
        }
    }

    /// Notes, before the first access unit, that viewers have packets from before that are not known.
    pub(crate) fn restart(&mut self) {
        if self.clock.parts().is_none() {
            self.restarts = true;
            (self.video, self.audio) = (Continuity::afresh(), Continuity::afresh());
            (self.tables.pat, self.tables.pmt) = (Continuity::afresh(), Continuity::afresh());
        }
    }

    /// Sets the expected lag of access units behind the newest, in milliseconds, before the first one.
    pub(crate) fn expect_lag(&mut self, lag: i64) {
        self.clock.expect_lag(lag);
    }

    /// Advances the clock to the DTS of a tag that is not written.
    pub(crate) fn pass(&mut self, dts: i64, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if self.program != Program::default() {
            self.advance(dts, false, sink)?;
        }
        Ok(())
    }

    /// Writes an access unit of a stream of the program.
    pub(crate) fn write<'a>(
        &mut self,
        unit: Unit<impl Iterator<Item = &'a [u8]> + Clone>,
        sink: &mut dyn Sink,
    ) -> Result<(), RemuxError> {
        let (pid, stream_id) = match self.program {
            Program { video: Some(stream), .. } if unit.video => (stream.pid(), pes::VIDEO),
            Program { audio: Some(stream), .. } if !unit.video => (stream.pid(), audio::stream_id(stream)),
            _ => return Ok(()),
        };
        let has_clock = Some(pid) == self.program.clock_pid();
        let discontinuity = self.advance(unit.dts, has_clock, sink)?;
        let pcr = has_clock.then(|| Ticks::from_millis(self.clock.with_unit()));
        let starts = unit.video && unit.random_access;
        if self.tables_due() || starts && !self.after_tables {
            self.write_tables(unit.dts, sink)?;
        }
        let payload = unit.pieces.clone().map(<[u8]>::len).sum();
        let times = (Ticks::from_millis(unit.pts), Ticks::from_millis(unit.dts));
        let begins = unit.video || unit.random_access;
        let header = pes::header(stream_id, begins.then_some(times), payload);
        let pieces = iter::once(&header[..]).chain(unit.pieces.map(|piece| -> &[u8] { piece }));
        let random_access = unit.random_access && (unit.video || has_clock);
        let adaptation = Adaptation { discontinuity, random_access, pcr };
        let counter = if unit.video { &mut self.video } else { &mut self.audio };
        let mut packets = Vec::new();
        write_unit(pid, counter, adaptation, pieces, &mut packets);
        let join = random_access || unit.random_access && self.video_absent;
        self.block(if join { BlockFlags::JOIN } else { BlockFlags::NONE }, unit.dts, packets, sink)
    }

    /// Advances the clock to `dts` and writes tables and references that are due before. Returns true if the clock has a new base
    /// that the reference in the next access unit must mark, if that `carries` one.
    fn advance(&mut self, dts: i64, carries: bool, sink: &mut dyn Sink) -> Result<bool, RemuxError> {
        let discontinuity = self.restarts || self.clock.parts().is_some();
        let set = self.clock.advance(dts) == Advance::Set;
        if set {
            self.tables_at = None;
        }
        if self.tables_at.is_none() {
            self.write_tables(dts, sink)?;
        }
        let mut packets = Vec::new();
        if set {
            if carries {
                return Ok(discontinuity);
            }
            self.write_reference(self.clock.reference(), discontinuity, &mut packets);
        }
        while let Some(reference) = self.clock.in_between() {
            self.write_reference(reference, false, &mut packets);
            if self.tables_due() {
                self.block(BlockFlags::NONE, dts, std::mem::take(&mut packets), sink)?;
                self.write_tables(dts, sink)?;
            }
        }
        self.block(BlockFlags::NONE, dts, packets, sink)?;
        Ok(false)
    }

    fn write_reference(&mut self, reference: i64, discontinuity: bool, packets: &mut Vec<u8>) {
        let Some(pid) = self.program.clock_pid() else { return };
        let counter = if self.program.video.is_some() { &mut self.video } else { &mut self.audio };
        let pcr = Some(Ticks::from_millis(reference));
        let adaptation = Adaptation { discontinuity, random_access: false, pcr };
        write_adaptation(pid, counter, adaptation, packets);
    }

    fn tables_due(&self) -> bool {
        self.tables_at.is_none_or(|at| self.clock.reference() - at >= TABLES_INTERVAL)
    }

    fn write_tables(&mut self, dts: i64, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.tables_at = Some(self.clock.reference());
        let packets = self.tables.write(self.program);
        self.block(BlockFlags::CONFIG, dts, packets, sink)
    }

    /// Writes a block of `packets`, if there are any.
    fn block(
        &mut self,
        flags: BlockFlags,
        dts: i64,
        packets: Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Result<(), RemuxError> {
        if packets.is_empty() {
            return Ok(());
        }
        self.after_tables = flags == BlockFlags::CONFIG;
        sink.block(Block { flags, track: 0, dts: Millis(dts), parts: vec![packets.into()] })?;
        Ok(())
    }

    /// Returns the state for a successor; empty if viewers have nothing that it must continue.
    pub(crate) fn state(&self) -> Vec<u8> {
        let Some(clock) = self.clock.parts() else {
            // A state that cannot be resumed: the successor restarts, as this one would have.
            return if self.restarts { vec![STATE_VERSION] } else { Vec::new() };
        };
        let video = match self.program.video {
            None => 0,
            Some(VideoStream::H264) => 1,
            Some(VideoStream::Hevc) => 2,
        };
        let audio = match self.program.audio {
            None => [0, 0],
            Some(AudioStream::Adts) => [1, 0],
            Some(AudioStream::Mpeg { low_rates }) => [2, u8::from(low_rates)],
            Some(AudioStream::Opus(channels)) => [3, channels],
        };
        let Tables { pat, pmt, version } = self.tables;
        let mut state = vec![STATE_VERSION, pat.state(), pmt.state(), self.video.state(), self.audio.state()];
        state.extend([version, video, audio[0], audio[1]]);
        state.extend(clock.iter().flat_map(|part| part.to_be_bytes()));
        state
    }

    /// Returns a multiplex that continues from a predecessor's `state`; `None` if that cannot be read.
    pub(crate) fn resume(state: &[u8]) -> Option<Mux> {
        let (&[state_version, pat, pmt, video, audio, version, video_stream, ref audio_stream @ ..], clock) =
            state.split_first_chunk::<9>()?;
        let (clock, rest) = clock.as_chunks::<8>();
        let clock: [i64; 3] =
            clock.iter().map(|part| i64::from_be_bytes(*part)).collect::<Vec<_>>().try_into().ok()?;
        let in_range = clock.iter().all(|part| part.unsigned_abs() < 1 << 53);
        if state_version != STATE_VERSION || !rest.is_empty() || !in_range {
            return None;
        }
        let program = Program {
            video: match video_stream {
                0 => None,
                1 => Some(VideoStream::H264),
                2 => Some(VideoStream::Hevc),
                _ => return None,
            },
            audio: match *audio_stream {
                [0, _] => None,
                [1, _] => Some(AudioStream::Adts),
                [2, low_rates] => Some(AudioStream::Mpeg { low_rates: low_rates != 0 }),
                [3, channels] => Some(AudioStream::Opus(channels)),
                _ => return None,
            },
        };
        let (pat, pmt) = (Continuity::resume(pat), Continuity::resume(pmt));
        Some(Mux {
            program,
            tables: Tables { pat, pmt, version: version % 32 },
            video: Continuity::resume(video),
            audio: Continuity::resume(audio),
            clock: Clock::resume(clock),
            ..Mux::default()
        })
    }
}

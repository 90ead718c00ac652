//! The rules for the transport streams of the host, as a table.
//!
//! From ISO/IEC 13818-1, ETSI TR 101 290 5.2 and TS 101 154, and from the behaviour of players.

use super::essence::{access_units, nal_type, nal_units, start_codes};
use super::stream::{Program, Stream, Table, Unit};
use crate::flv::AccessUnit;
use crate::times::check_times;

/// A rule: a function that returns a description of the first fault.
pub type Rule = fn(&Stream) -> Result<(), String>;

/// Longest distance between tables, in 1/90 000 s.
const TABLES_APART: i64 = 500 * 90;
/// Longest distance between clock references, in 1/90 000 s.
const CLOCKS_APART: i64 = 40 * 90;
/// Longest time by which an access unit may arrive before its DTS: the second that 2.4.2.6 allows.
const CLOCK_AHEAD: i64 = 1_000 * 90;

/// All rules, by name.
pub const RULES: &[(&str, Rule)] = &[
    ("sync", sync),
    ("adaptation fields", adaptation_fields),
    ("continuity", continuity),
    ("PIDs", pids),
    ("tables", tables),
    ("tables first", tables_first),
    ("tables often", tables_often),
    ("tables before keyframes", tables_before_keyframes),
    ("version", version),
    ("clock PID", clock_pid),
    ("clock often", clock_often),
    ("clock before DTS", clock_before_dts),
    ("clock near DTS", clock_near_dts),
    ("PES headers", pes_headers),
    ("PES lengths", pes_lengths),
    ("timestamps", timestamps),
    ("keyframe first", keyframe_first),
    ("random access", random_access),
    ("delimiters", delimiters),
    ("parameter sets", parameter_sets),
    ("start codes", start_code_lengths),
    ("audio frames", audio_frames),
];

/// Compares a stream with all [`RULES`].
///
/// # Errors
/// Each broken rule: its name, and the first fault.
pub fn check(stream: &Stream) -> Result<(), Vec<(&'static str, String)>> {
    let broken: Vec<_> =
        RULES.iter().filter_map(|(name, rule)| rule(stream).err().map(|fault| (*name, fault))).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// Returns the first fault as an error.
fn fail_at_first(mut faults: impl Iterator<Item = String>) -> Result<(), String> {
    faults.next().map_or(Ok(()), Err)
}

fn sync(stream: &Stream) -> Result<(), String> {
    let bad = stream.packets.iter().enumerate().filter(|(_, packet)| {
        let [sync, first, _, last] = packet.header;
        // No error, no priority, not scrambled, and not empty.
        sync != 0x47 || first & 0xa0 != 0 || last & 0xc0 != 0 || last & 0x30 == 0
    });
    fail_at_first(bad.map(|(at, packet)| format!("packet {at}: {:02x?}", packet.header)))?;
    match (stream.rest, stream.packets.len()) {
        (0, 1..) => Ok(()),
        (rest, packets) => Err(format!("{packets} packets and {rest} bytes")),
    }
}

fn adaptation_fields(stream: &Stream) -> Result<(), String> {
    let faults = stream.packets.iter().enumerate();
    fail_at_first(
        faults.filter_map(|(at, packet)| {
            packet.field_fault.as_ref().map(|fault| format!("packet {at}: {fault}"))
        }),
    )
}

/// Checks the counters of each PID. A packet with `discontinuity_indicator` may have any counter (2.4.3.5).
fn continuity(stream: &Stream) -> Result<(), String> {
    let mut last = std::collections::BTreeMap::new();
    fail_at_first(stream.packets.iter().enumerate().filter_map(|(at, packet)| {
        let (pid, found) = (packet.pid, packet.continuity);
        let previous: u8 = last.insert(pid, found)?;
        if packet.discontinuity() {
            // The counter may start afresh (2.4.3.5), with a new section or PES packet.
            let within = packet.payload.is_some() && !packet.start;
            return within.then(|| format!("packet {at}, PID {pid:#x}: marked within a unit"));
        }
        let expected = if packet.payload.is_some() { (previous + 1) & 15 } else { previous };
        (found != expected && !packet.discontinuity())
            .then(|| format!("packet {at}, PID {pid:#x}: {found}, not {expected}"))
    }))
}

fn pids(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.strays.iter().map(|(at, stray)| format!("packet {at}: {stray}")))
}

fn tables(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.tables.iter().filter_map(|table| {
        table.fault.as_ref().map(|fault| format!("packet {}, PID {:#x}: {fault}", table.at, table.pid))
    }))
}

fn tables_first(stream: &Stream) -> Result<(), String> {
    match &stream.tables[..] {
        [pat, pmt, ..] if pat.at == 0 && pmt.at == 1 && pat.is_association() && !pmt.is_association() => {
            Ok(())
        }
        _ => Err("the first two packets are not PAT and PMT".into()),
    }
}

fn tables_often(stream: &Stream) -> Result<(), String> {
    let map = stream.tables.iter().find(|table| !table.is_association()).map_or(0, |table| table.pid);
    for pid in [0, map] {
        let of_pid = |table: &&Table| table.pid == pid;
        let positions: Vec<usize> = stream.tables.iter().filter(of_pid).map(|table| table.at).collect();
        let ends = positions.iter().copied().skip(1).chain([stream.packets.len()]);
        for (from, to) in positions.iter().copied().zip(ends) {
            let clocks = of_packets(&stream.clocks, |clock| clock.at, from, to);
            if clocks.iter().any(|clock| clock.discontinuity) {
                continue;
            }
            let before = clock_at(stream, from);
            let times = before.into_iter().chain(clocks.iter().map(|clock| clock.value));
            let span = times.clone().max().zip(times.min()).map_or(0, |(last, first)| last - first);
            let video =
                of_packets(&stream.units, |unit| unit.at, from, to).iter().filter(|unit| unit.is_video());
            let times = video.map(|unit| unit.dts);
            let dts_span = times.clone().max().zip(times.min()).map_or(0, |(last, first)| last - first);
            if span.max(dts_span) > TABLES_APART {
                let (span, dts_span) = (span / 90, dts_span / 90);
                return Err(format!(
                    "none on PID {pid:#x} for {span} ms, {dts_span} ms of DTS, after packet {from}"
                ));
            }
        }
    }
    Ok(())
}

fn tables_before_keyframes(stream: &Stream) -> Result<(), String> {
    let keyframes = stream.units.iter().filter(|unit| unit.is_video() && unit.random_access);
    fail_at_first(keyframes.filter_map(|unit| {
        let pids = [unit.at.checked_sub(2)?, unit.at - 1].map(|at| &stream.packets[at]);
        let found =
            stream.tables.iter().filter(|table| table.at + 2 >= unit.at && table.at < unit.at).count();
        (found != 2)
            .then(|| format!("packet {}: PIDs {:#x} and {:#x} before", unit.at, pids[0].pid, pids[1].pid))
    }))
}

fn version(stream: &Stream) -> Result<(), String> {
    for association in [true, false] {
        let tables: Vec<&Table> =
            stream.tables.iter().filter(|table| table.is_association() == association).collect();
        for pair in tables.windows(2) {
            if stream.packets[pair[1].at].discontinuity() {
                continue;
            }
            let step = if pair[0].body == pair[1].body { 0 } else { 1 };
            let expected = (pair[0].version + step) % 32;
            if pair[1].version != expected {
                return Err(format!("packet {}: {}, not {expected}", pair[1].at, pair[1].version));
            }
        }
    }
    Ok(())
}

fn clock_pid(stream: &Stream) -> Result<(), String> {
    if stream.clocks.is_empty() {
        return Err("no clock reference".into());
    }
    fail_at_first(stream.clocks.iter().filter_map(|clock| {
        let Program { clock_pid, streams } = stream.program_at(clock.at)?;
        let listed = streams.iter().any(|elementary| elementary.pid == *clock_pid);
        (clock.pid != *clock_pid || !listed)
            .then(|| format!("packet {}: on PID {:#x}, not {clock_pid:#x}", clock.at, clock.pid))
    }))
}

/// Checks that the clock does not go back, also at a discontinuity: the timeline of a stream continues over its seams. Only there may
/// references be far apart.
fn clock_often(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.clocks.windows(2).filter_map(|pair| {
        let step = pair[1].value - pair[0].value;
        let most = if pair[1].discontinuity { i64::MAX } else { CLOCKS_APART };
        (!(0..=most).contains(&step))
            .then(|| format!("packet {}: {} ms after the last", pair[1].at, step as f64 / 90.0))
    }))?;
    // The end must not be far from the last one either.
    let (clock, unit) = (stream.clocks.last(), stream.units.last());
    match clock.zip(unit) {
        Some((clock, unit)) if unit.dts - clock.value > CLOCK_AHEAD => Err("none at the end".into()),
        _ => Ok(()),
    }
}

/// Returns those of the ordered `items` that are in packets from `from` to before `to`.
fn of_packets<T>(items: &[T], at: impl Fn(&T) -> usize, from: usize, to: usize) -> &[T] {
    &items[items.partition_point(|item| at(item) < from)..items.partition_point(|item| at(item) < to)]
}

/// Returns the clock at a packet: the last reference up to it.
fn clock_at(stream: &Stream, packet: usize) -> Option<i64> {
    let index = stream.clocks.partition_point(|clock| clock.at <= packet);
    Some(stream.clocks[index.checked_sub(1)?].value)
}

/// Returns the PES packets in which an access unit begins.
fn timed(stream: &Stream) -> impl Iterator<Item = &Unit> {
    stream.units.iter().filter(|unit| unit.has_pts)
}

fn clock_before_dts(stream: &Stream) -> Result<(), String> {
    fail_at_first(timed(stream).filter_map(|unit| {
        let ahead = unit.dts - clock_at(stream, unit.end)?;
        (ahead <= 0).then(|| format!("packet {}: {} ms after DTS", unit.end, -ahead / 90))
    }))
}

fn clock_near_dts(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.units.iter().filter_map(|unit| {
        let ahead = unit.dts - clock_at(stream, unit.at)?;
        (ahead > CLOCK_AHEAD).then(|| format!("packet {}: {} ms before DTS", unit.at, ahead / 90))
    }))
}

fn pes_headers(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.units.iter().filter_map(|unit| {
        let stream_ids = match unit.stream_type {
            0x1b | 0x24 => 0xe0..=0xef,
            0x06 => 0xbd..=0xbd,
            _ => 0xc0..=0xdf,
        };
        let fault = match &unit.fault {
            Some(fault) => fault.clone(),
            None if !stream_ids.contains(&unit.stream_id) => format!("stream_id {:#x}", unit.stream_id),
            None if unit.is_video() && !unit.has_pts => "no PTS".into(),
            None => return None,
        };
        Some(format!("packet {}: {fault}", unit.at))
    }))
}

fn pes_lengths(stream: &Stream) -> Result<(), String> {
    fail_at_first(stream.units.iter().filter_map(|unit| {
        let open = unit.length == 0 && unit.is_video() && unit.actual_length > 0xffff;
        (unit.length != unit.actual_length && !open)
            .then(|| format!("packet {}: {}, not {}", unit.at, unit.length, unit.actual_length))
    }))
}

/// Checks the fields of each time, and the rules of [`check_times`].
fn timestamps(stream: &Stream) -> Result<(), String> {
    fail_at_first(timed(stream).filter_map(|unit| {
        let good = unit.pts >= unit.dts && unit.has_dts == (unit.pts != unit.dts);
        (!good).then(|| format!("packet {}: PTS {}, DTS {}", unit.at, unit.pts, unit.dts))
    }))?;
    // A unit without a timestamp continues the one before.
    let units = stream.units.iter().zip(access_units(stream)?);
    let timed: Vec<AccessUnit> = units.filter(|(unit, _)| unit.has_pts).map(|(_, timed)| timed).collect();
    check_times(&timed)
}

fn keyframe_first(stream: &Stream) -> Result<(), String> {
    match stream.units.iter().find(|unit| unit.is_video()) {
        Some(unit) if !unit.random_access => Err(format!("packet {}", unit.at)),
        _ => Ok(()),
    }
}

fn codec(unit: &Unit) -> &'static [u8; 4] {
    if unit.stream_type == 0x24 { b"hvc1" } else { b"avc1" }
}

/// Returns the types of the NAL units of video.
fn nal_types(unit: &Unit) -> Vec<u8> {
    nal_units(&unit.payload).iter().map(|nal| nal_type(codec(unit), nal)).collect()
}

fn video(stream: &Stream) -> impl Iterator<Item = &Unit> {
    stream.units.iter().filter(|unit| unit.is_video())
}

/// Returns whether a decoder may start at a picture of these types.
fn starts(unit: &Unit, types: &[u8]) -> bool {
    types.iter().any(|kind| if unit.stream_type == 0x24 { (16..24).contains(kind) } else { *kind == 5 })
}

fn random_access(stream: &Stream) -> Result<(), String> {
    let unmarked = video(stream).filter(|unit| !unit.random_access && starts(unit, &nal_types(unit)));
    fail_at_first(unmarked.map(|unit| format!("packet {}", unit.at)))?;
    let audio_only = timed(stream).filter(|unit| {
        let pid = stream.program_at(unit.at).map(|program| program.clock_pid);
        !unit.is_video() && pid == Some(unit.pid) && !unit.random_access
    });
    fail_at_first(audio_only.map(|unit| format!("packet {}: audio alone", unit.at)))
}

fn delimiters(stream: &Stream) -> Result<(), String> {
    fail_at_first(video(stream).filter_map(|unit| {
        let types = nal_types(unit);
        let delimiter = if unit.stream_type == 0x24 { 35 } else { 9 };
        let count = types.iter().filter(|kind| **kind == delimiter).count();
        (types.first() != Some(&delimiter) || count != 1).then(|| format!("packet {}: {types:?}", unit.at))
    }))
}

fn parameter_sets(stream: &Stream) -> Result<(), String> {
    fail_at_first(video(stream).filter_map(|unit| {
        let types = nal_types(unit);
        let hevc = unit.stream_type == 0x24;
        let slice = types.iter().position(|kind| if hevc { *kind < 32 } else { (1..6).contains(kind) })?;
        let wanted: &[u8] = if hevc { &[32, 33, 34] } else { &[7, 8] };
        let all = wanted.iter().all(|kind| types[..slice].contains(kind));
        (!all && (unit.random_access || starts(unit, &types)))
            .then(|| format!("packet {}: {types:?}", unit.at))
    }))
}

fn start_code_lengths(stream: &Stream) -> Result<(), String> {
    fail_at_first(video(stream).filter_map(|unit| {
        let bytes = &unit.payload;
        let codes = start_codes(bytes);
        let bad = codes[..codes.len() - 1].iter().enumerate().any(|(index, &at)| {
            let kind = nal_type(codec(unit), &bytes[at + 3..]);
            let hevc = unit.stream_type == 0x24;
            let is_set = if hevc { (32..=34).contains(&kind) } else { (7..=8).contains(&kind) };
            // The leading zero byte (H.264 and H.265, B.2.1).
            let long = at > 0 && bytes[at - 1] == 0;
            index == 0 && at != 1 || (index == 0 || is_set) && !long
        });
        (bad || codes.len() == 1)
            .then(|| format!("packet {}: {:02x?}", unit.at, &bytes[..bytes.len().min(8)]))
    }))
}

/// Checks that audio frames can be read, and that Opus has its descriptors.
fn audio_frames(stream: &Stream) -> Result<(), String> {
    let units: Vec<AccessUnit> = access_units(stream)?;
    if units.is_empty() {
        return Err("no access unit".into());
    }
    let programs = stream.tables.iter().filter_map(|table| table.program.as_ref());
    let private =
        programs.flat_map(|program| &program.streams).filter(|elementary| elementary.stream_type == 6);
    fail_at_first(private.filter_map(|elementary| {
        let announced =
            matches!(elementary.descriptors[..], [5, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, _]);
        (!announced).then(|| format!("descriptors {:02x?}", elementary.descriptors))
    }))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

//! A good stream, written by hand, keeps all rules; each change that should break a rule breaks it.

use super::super::stream::crc;
use super::*;

/// A part of a stream.
#[derive(Clone, Debug)]
enum Item {
    Tables { version: u8, clock_pid: u16, streams: Vec<(u16, u8)>, opus: &'static [u8] },
    Clock { pid: u16, time: i64 },
    Unit { pid: u16, stream_id: u8, key: bool, clock: Option<i64>, pts: i64, dts: i64, payload: Vec<u8> },
}

const V: u16 = 0x100;
const A: u16 = 0x101;

fn tables(version: u8) -> Item {
    Item::Tables { version, clock_pid: V, streams: vec![(V, 0x1b), (A, 0x0f)], opus: b"" }
}

fn avc(key: bool) -> Vec<u8> {
    let sets: &[u8] = if key { b"\0\0\0\x01\x67abc\0\0\0\x01\x68d\0\0\x01\x65" } else { b"\0\0\x01\x41" };
    [&b"\0\0\0\x01\x09\xf0"[..], sets, &[0x77; 300]].concat()
}

fn adts(size: u8) -> Vec<u8> {
    [
        &[0xff, 0xf1, 0x50, 0x80, size >> 3, (size & 7) << 5 | 0x1f, 0xfc][..],
        &vec![0x21; usize::from(size) - 7],
    ]
    .concat()
}

/// Returns two seconds of 25 pictures and 50 audio frames a second, with a keyframe each second, at a time in milliseconds.
fn good() -> Vec<Item> {
    let mut items = Vec::new();
    for n in 0..50 {
        let (time, key) = (1_000 + n * 40, n % 25 == 0);
        if key || n % 10 == 0 {
            items.push(tables(0));
        }
        // I P B P B: each B is shown before the P that precedes it.
        let reorder = [0, 80][(n % 25 % 2) as usize] + if key { 40 } else { 0 };
        let (clock, pts) = (Some(time - 100), time + reorder);
        items.push(Item::Unit { pid: V, stream_id: 0xe0, key, clock, pts, dts: time, payload: avc(key) });
        for dts in [time, time + 20] {
            let payload = adts(200);
            items.push(Item::Unit {
                pid: A,
                stream_id: 0xc0,
                key: false,
                clock: None,
                pts: dts,
                dts,
                payload,
            });
        }
    }
    items
}

fn audio_alone(stream_type: u8, opus: &'static [u8], stream_id: u8, payload: &[u8]) -> Vec<Item> {
    let unit = |n: i64| Item::Unit {
        pid: A,
        stream_id,
        key: true,
        clock: Some(900 + n * 20),
        pts: 1_000 + n * 20,
        dts: 1_000 + n * 20,
        payload: payload.to_vec(),
    };
    let tables = Item::Tables { version: 0, clock_pid: A, streams: vec![(A, stream_type)], opus };
    std::iter::once(tables).chain((0..20).map(unit)).collect()
}

fn slow_video() -> Vec<Item> {
    let mut items = Vec::new();
    for n in 0..100 {
        let time = 1_000 + n * 40;
        if n % 10 == 0 {
            items.push(Item::Tables { version: 31, clock_pid: V, streams: vec![(V, 0x24)], opus: b"" });
        }
        if n % 25 == 0 {
            let payload = b"\0\0\0\x01\x46\x01\x50\0\0\0\x01\x40\x01\0\0\0\x01\x42\x01\0\0\0\x01\x44\x01\0\0\x01\x26\x01x";
            let clock = Some(time - 100);
            let payload = payload.to_vec();
            if n % 10 != 0 {
                items.push(Item::Tables { version: 31, clock_pid: V, streams: vec![(V, 0x24)], opus: b"" });
            }
            items.push(Item::Unit {
                pid: V,
                stream_id: 0xe0,
                key: true,
                clock,
                pts: time,
                dts: time,
                payload,
            });
        } else {
            items.push(Item::Clock { pid: V, time: time - 100 });
        }
    }
    items
}

/// Writes items as packets.
fn write(items: &[Item]) -> Vec<u8> {
    let mut counters = std::collections::BTreeMap::new();
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Tables { version, clock_pid, streams, opus } => {
                packets(0, &mut counters, &section(0, 1, 0, &[0, 1, 0xf0, 0x01]), None, false, &mut out);
                let mut body = vec![0xe0 | (clock_pid >> 8) as u8, *clock_pid as u8, 0xf0, 0];
                for (pid, stream_type) in streams {
                    body.extend([*stream_type, 0xe0 | (pid >> 8) as u8, *pid as u8, 0xf0, opus.len() as u8]);
                    body.extend(*opus);
                }
                packets(0x1001, &mut counters, &section(2, 1, *version, &body), None, false, &mut out);
            }
            Item::Clock { pid, time } => {
                let counter = *counters.entry(*pid).or_insert(15);
                out.extend([0x47, (pid >> 8) as u8, *pid as u8, 0x20 | counter]);
                out.extend(field(183, Some(*time), false));
            }
            Item::Unit { pid, stream_id, key, clock, pts, dts, payload } => {
                let has_dts = pts != dts;
                let length = (payload.len() + if has_dts { 13 } else { 8 }) as u16;
                let mut unit = vec![0, 0, 1, *stream_id, (length >> 8) as u8, length as u8, 0x80];
                unit.extend(if has_dts { [0xc0, 10] } else { [0x80, 5] });
                unit.extend(timestamp(if has_dts { 3 } else { 2 }, *pts));
                unit.extend(has_dts.then(|| timestamp(1, *dts)).into_iter().flatten());
                unit.extend(payload);
                packets(*pid, &mut counters, &unit, *clock, *key, &mut out);
            }
        }
    }
    out
}

fn section(table_id: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![table_id, 0xb0, (body.len() + 9) as u8];
    section.extend(extension.to_be_bytes());
    section.extend([0xc1 | version << 1, 0, 0]);
    section.extend(body);
    section.extend(crc(&section).to_be_bytes());
    section.insert(0, 0);
    section.resize(184, 0xff);
    section
}

fn timestamp(prefix: u8, time: i64) -> [u8; 5] {
    let ticks = (time * 90) as u64 & ((1 << 33) - 1);
    let [.., a, b] = ((ticks >> 15 & 0x7fff) << 1 | 1).to_be_bytes();
    let [.., c, d] = ((ticks & 0x7fff) << 1 | 1).to_be_bytes();
    [prefix << 4 | ((ticks >> 30) << 1) as u8 | 1, a, b, c, d]
}

/// Returns an adaptation field of `len` bytes after its length.
fn field(len: usize, clock: Option<i64>, key: bool) -> Vec<u8> {
    let mut field = vec![len as u8];
    if len > 0 {
        field.push(if key { 0x40 } else { 0 } | if clock.is_some() { 0x10 } else { 0 });
    }
    if let Some(time) = clock {
        let ticks = (time * 90) as u64 & ((1 << 33) - 1);
        field.extend(&(ticks << 15 | 0x3f << 9).to_be_bytes()[2..]);
    }
    field.resize(1 + len, 0xff);
    field
}

type Counters = std::collections::BTreeMap<u16, u8>;

fn packets(
    pid: u16,
    counters: &mut Counters,
    mut unit: &[u8],
    clock: Option<i64>,
    key: bool,
    out: &mut Vec<u8>,
) {
    let mut start = true;
    while !unit.is_empty() {
        let counter = counters.entry(pid).or_insert(15);
        *counter = (*counter + 1) & 15;
        let least = if start && clock.is_some() {
            8
        } else if start && key {
            2
        } else {
            0
        };
        let take = unit.len().min(184 - least);
        let stuffed = 184 - take;
        let control = if stuffed > 0 { 0x30 } else { 0x10 };
        out.extend([0x47, if start { 0x40 } else { 0 } | (pid >> 8) as u8, pid as u8, control | *counter]);
        if stuffed > 0 {
            out.extend(field(stuffed - 1, clock.filter(|_| start), key && start));
        }
        out.extend(&unit[..take]);
        unit = &unit[take..];
        start = false;
    }
}

fn broken(bytes: &[u8]) -> Vec<&'static str> {
    check(&Stream::read(bytes)).err().into_iter().flatten().map(|(rule, _)| rule).collect()
}

#[test]
fn good_streams_keep_all_rules() {
    let opus = b"\x05\x04Opus\x7f\x02\x80\x02";
    for items in [
        good(),
        slow_video(),
        audio_alone(0x0f, b"", 0xc0, &adts(100)),
        audio_alone(0x03, b"", 0xc0, &[0xff, 0xfb, 0x90, 0]),
        audio_alone(0x06, opus, 0xbd, b"\x7f\xe0\x03abc"),
    ] {
        assert_eq!(check(&Stream::read(&write(&items))), Ok(()));
        super::super::second_opinion(&write(&items)).unwrap();
    }
}

#[test]
fn times_go_on_across_the_wrap() {
    let mut items = good();
    let wrap = (1i64 << 33) / 90;
    for item in &mut items {
        if let Item::Unit { pts, dts, clock, .. } = item {
            *pts += wrap - 2_000;
            *dts += wrap - 2_000;
            *clock = clock.map(|clock| clock + wrap - 2_000);
        }
    }
    let stream = Stream::read(&write(&items));
    assert_eq!(check(&stream), Ok(()));
    let video: Vec<i64> = video(&stream).map(|unit| unit.dts).collect();
    assert_eq!(video[49] - video[0], 49 * 40 * 90);
}

#[test]
fn a_discontinuity_frees_the_counter_but_not_the_clock() {
    let bytes = write(&good());
    let is_clock =
        |packet: &[u8]| packet[1..3] == [0x41, 0] && packet[3] & 0x20 != 0 && packet[5] & 0x10 != 0;
    let at = bytes.chunks(188).enumerate().skip(50).find(|(_, packet)| is_clock(packet)).unwrap().0 * 188;
    let mut jump = bytes.clone();
    for packet in
        jump[at..].chunks_mut(188).filter(|packet| packet[1..3] == [0x41, 0] || packet[1..3] == [1, 0])
    {
        packet[3] = packet[3] & 0xf0 | (packet[3] + 5) & 15;
    }
    assert_eq!(broken(&jump), ["continuity"]);
    jump[at + 5] |= 0x80;
    assert_eq!(check(&Stream::read(&jump)), Ok(()));
    // The first byte of the clock reference.
    let mut back = bytes;
    back[at + 5] |= 0x80;
    back[at + 7..at + 9].fill(0);
    assert!(broken(&back).contains(&"clock often"), "{:?}", broken(&back));
}

/// Returns the first video item after the tables at `from`.
fn video_from(items: &mut [Item], from: usize) -> &mut Item {
    items.iter_mut().skip(from).find(|item| matches!(item, Item::Unit { pid: V, .. })).unwrap()
}

fn payload(item: &mut Item) -> &mut Vec<u8> {
    let Item::Unit { payload, .. } = item else { panic!("{item:?}") };
    payload
}

#[test]
fn each_broken_rule_is_noticed() {
    type Break = fn(&mut Vec<Item>);
    let cases: &[(&str, Break)] = &[
        ("tables first", |items| drop(items.remove(0))),
        ("tables often", |items| {
            let mut index = 0;
            items.retain(|item| {
                index += 1;
                !matches!(item, Item::Tables { .. }) || !(10..60).contains(&index)
            });
        }),
        ("tables before keyframes", |items| {
            let key = items.iter().rposition(|item| matches!(item, Item::Unit { key: true, .. })).unwrap();
            items.swap(key - 1, key - 2);
        }),
        ("version", |items| {
            let Some(Item::Tables { streams, .. }) = items.last_mut().map(|last| {
                *last = tables(0);
                last
            }) else {
                panic!("tables")
            };
            streams.reverse();
        }),
        ("version", |items| items.push(tables(1))),
        ("PIDs", |items| {
            items.push(Item::Unit {
                pid: 0x102,
                stream_id: 0xc0,
                key: false,
                clock: None,
                pts: 3_000,
                dts: 3_000,
                payload: adts(9),
            });
        }),
        ("clock PID", |items| items.push(Item::Clock { pid: A, time: 2_900 })),
        ("clock PID", |items| {
            items.retain(|item| !matches!(item, Item::Clock { .. }));
            for item in items {
                if let Item::Unit { clock, .. } = item {
                    *clock = None;
                }
            }
        }),
        ("clock often", |items| {
            if let Item::Unit { clock, .. } = video_from(items, 20) {
                *clock = None;
            }
        }),
        ("clock often", |items| items.push(Item::Clock { pid: V, time: 1_000 })),
        ("clock before DTS", |items| {
            for item in items {
                if let Item::Unit { clock, .. } = item {
                    *clock = clock.map(|clock| clock + 101);
                }
            }
        }),
        ("clock near DTS", |items| {
            for item in items {
                if let Item::Unit { clock, .. } = item {
                    *clock = clock.map(|clock| clock - 901);
                }
            }
        }),
        ("PES headers", |items| {
            if let Item::Unit { stream_id, .. } = video_from(items, 9) {
                *stream_id = 0xc0;
            }
        }),
        ("timestamps", |items| {
            if let Item::Unit { pts, dts, .. } = video_from(items, 9) {
                *pts = *dts - 1;
            }
        }),
        ("timestamps", |items| {
            if let Item::Unit { pts, dts, .. } = video_from(items, 9) {
                (*pts, *dts) = (1_010, 1_010);
            }
        }),
        ("keyframe first", |items| {
            if let Item::Unit { key, .. } = video_from(items, 0) {
                *key = false;
            }
        }),
        ("random access", |items| {
            if let Item::Unit { key, .. } = video_from(items, 0) {
                *key = false;
            }
        }),
        ("random access", |items| {
            *items = audio_alone(0x0f, b"", 0xc0, &adts(100));
            if let Some(Item::Unit { key, .. }) = items.last_mut() {
                *key = false;
            }
        }),
        ("delimiters", |items| drop(payload(video_from(items, 0)).drain(..6))),
        ("delimiters", |items| payload(video_from(items, 9)).extend(b"\0\0\x01\x09\xf0")),
        ("parameter sets", |items| {
            // No picture parameter set.
            payload(video_from(items, 0)).splice(14..20, []);
        }),
        ("start codes", |items| _ = payload(video_from(items, 9)).remove(0)),
        ("start codes", |items| _ = payload(video_from(items, 0)).remove(6)),
        ("audio frames", |items| payload(items.last_mut().unwrap())[0] = 0),
        ("audio frames", |items| *items = audio_alone(0x06, b"", 0xbd, b"\x7f\xe0\x03abc")),
        ("audio frames", |items| {
            *items = audio_alone(0x06, b"\x05\x04Opus\x7f\x02\x80\x02", 0xbd, b"\x7f\xe0\x04abc");
        }),
    ];
    let mut noticed: Vec<&str> = Vec::new();
    for (index, (rule, break_it)) in cases.iter().enumerate() {
        let mut items = good();
        break_it(&mut items);
        let broken = broken(&write(&items));
        assert!(broken.contains(rule), "case {index}: {rule} goes unnoticed, {broken:?}");
        noticed.push(rule);
    }
    type Damage = fn(&mut Vec<u8>);
    let damage: &[(&str, Damage)] = &[
        ("sync", |bytes| bytes[188 * 9] = 0x48),
        ("sync", |bytes| bytes[188 * 9 + 1] |= 0x80),
        ("sync", |bytes| bytes[188 * 9 + 3] |= 0x40),
        ("sync", |bytes| _ = bytes.pop()),
        ("sync", Vec::clear),
        ("adaptation fields", |bytes| {
            // The second packet of the first picture is filled.
            let at = 188 * 3 + 6;
            assert_eq!(bytes[at..at + 2], [0xff; 2]);
            bytes[at] = 0;
        }),
        ("adaptation fields", |bytes| bytes[188 * 3 + 4] = 200),
        ("continuity", |bytes| drop(bytes.drain(188 * 9..188 * 10))),
        ("continuity", |bytes| {
            let again = bytes[188 * 9..188 * 10].to_vec();
            bytes.splice(188 * 9..188 * 9, again);
        }),
        ("continuity", |bytes| {
            // A packet without payload that increments the counter.
            let is_video = |packet: &&[u8]| packet[1] & 0x1f == 1 && packet[2] == 0;
            let last = bytes.chunks(188).rfind(is_video).unwrap()[3] & 15;
            let mut packet = vec![0x47, 1, 0, 0x20 | (last + 1) & 15];
            packet.extend(field(183, None, false));
            bytes.extend(packet);
        }),
        // A discontinuity within a PES packet.
        ("continuity", |bytes| bytes[188 * 3 + 5] |= 0x80),
        ("tables", |bytes| bytes[5 + 12] ^= 1),
        ("tables", |bytes| bytes[4] = 1),
        ("tables", |bytes| bytes[187] = 0),
        ("PES lengths", |bytes| bytes[188 * 2 + 4 + 8 + 5] ^= 1),
        ("PES headers", |bytes| bytes[188 * 2 + 4 + 8] ^= 1),
        ("PES headers", |bytes| bytes[188 * 2 + 4 + 8 + 13] ^= 1),
    ];
    for (index, (rule, damage_it)) in damage.iter().enumerate() {
        let mut bytes = write(&good());
        damage_it(&mut bytes);
        let broken = broken(&bytes);
        assert!(broken.contains(rule), "damage {index}: {rule} goes unnoticed, {broken:?}");
        noticed.push(rule);
    }
    let untested: Vec<_> =
        RULES.iter().map(|(name, _)| name).filter(|name| !noticed.contains(name)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

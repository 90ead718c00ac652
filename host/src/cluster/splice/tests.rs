use super::*;
use crate::media::TagKind;

/// Time from one unit to the next, in milliseconds.
pub(super) const FRAME: i64 = 40;

/// Time by which audio is ahead of the video that it comes with, in milliseconds.
const AUDIO_AHEAD: i64 = 65;

/// Creates a tag: K keyframe, p inter frame, a audio, t audio of another track; h and g sequence headers of video and audio,
/// m metadata, c a cue point. `body` follows the tag's header.
pub(super) fn tag(letter: char, body: &[u8], dts: u32) -> Tag {
    let (kind, header): (TagKind, &[u8]) = match letter {
        'K' => (TagKind::VIDEO, b"\x17\x01\0\0\x50"),
        'p' => (TagKind::VIDEO, b"\x27\x01\0\0\x28"),
        'a' => (TagKind::AUDIO, b"\xaf\x01"),
        't' => (TagKind::AUDIO, b"\x95\x01mp4a\x01"),
        'h' => (TagKind::VIDEO, b"\x17\x00\0\0\0"),
        'g' => (TagKind::AUDIO, b"\xaf\x00"),
        'm' => (TagKind::SCRIPT, b"\x02\0\x0aonMetaData"),
        'c' => (TagKind::SCRIPT, b"\x02\0\x0aonCuePoint"),
        other => panic!("no tag {other}"),
    };
    Tag::new(kind, Millis(i64::from(dts)), [header, body].concat().into())
}

/// Whether tags with this letter are units.
pub(super) fn is_unit(letter: char) -> bool {
    "Kpat".contains(letter)
}

/// The timestamp of the unit at this position of the stream.
pub(super) fn dts(letter: char, at: i64, base: u32) -> u32 {
    let ahead = if "at".contains(letter) { AUDIO_AHEAD } else { 0 };
    base.wrapping_add((at * FRAME + ahead) as u32)
}

/// A text for a tag that was delivered: its letter, and its position or its body.
fn name(tag: &Tag, base: u32) -> String {
    let at = |ahead| {
        let time = (tag.dts.0 as u32).wrapping_sub(base).wrapping_sub(ahead as u32);
        assert!(i64::from(time) % FRAME == 0, "the timestamp of {tag:?} has another base than {base}");
        i64::from(time) / FRAME
    };
    match &tag.payload[..] {
        [0x17, 1, ..] => format!("K{}", at(0)),
        [0x27, 1, ..] => format!("p{}", at(0)),
        [0xaf, 1, ..] => format!("a{}", at(AUDIO_AHEAD)),
        [0x95, 1, ..] => format!("t{}", at(AUDIO_AHEAD)),
        [0x17, 0, 0, 0, 0, body @ ..] => format!("h{}", String::from_utf8_lossy(body)),
        [0xaf, 0, body @ ..] => format!("g{}", String::from_utf8_lossy(body)),
        body if body.starts_with(b"\x02\0\x0aonM") => format!("m{}", String::from_utf8_lossy(&body[13..])),
        _ => "c".into(),
    }
}

/// A splice and the clock of its origins.
struct Scene {
    splice: Splice,
    now: i64,
    /// Base of the timestamps that are delivered.
    base: u32,
    text: Vec<String>,
}

impl Scene {
    fn new(base: u32) -> Scene {
        Scene { splice: Splice::default(), now: 0, base, text: Vec::new() }
    }

    /// Pushes tags: a letter, and a body; a unit without one gets a body of its own. Units come at once, after `|` at their pace.
    /// `@` sets the position of the next unit.
    fn pull(&mut self, tags: &str, base: u32) {
        let (mut at, mut live) = (0, false);
        for token in tags.split_whitespace() {
            let letter = token.chars().next().unwrap();
            match (letter, &token[1..]) {
                ('@', position) => at = position.parse().unwrap(),
                ('|', _) => live = true,
                (letter, "") if is_unit(letter) => {
                    let body = format!("unit {at}");
                    self.push(tag(letter, body.as_bytes(), dts(letter, at, base)), base);
                }
                (letter, body) => self.push(tag(letter, body.as_bytes(), dts(letter, at, base)), base),
            }
            if is_unit(letter) {
                at += 1;
                self.now += if live { FRAME } else { 0 };
            }
        }
    }

    fn push(&mut self, tag: Tag, base: u32) {
        let delivery = self.splice.push(tag, Millis(self.now));
        self.take(delivery, base);
    }

    fn take(&mut self, delivery: Delivery, base: u32) {
        let tags = match delivery {
            Delivery::Nothing => return,
            Delivery::Next(tag) => vec![tag],
            Delivery::Resumed(tags) => {
                self.text.push("resume".into());
                tags
            }
            Delivery::Restarted(tags) => {
                self.text.push("restart".into());
                self.base = base;
                tags
            }
        };
        let names = tags.iter().map(|tag| name(tag, self.base));
        self.text.extend(names);
    }

    /// Switches as an edge does soon after the last unit.
    fn switch(&mut self) {
        self.splice.switch(Millis(self.now + 20));
        self.now += 30;
    }

    fn held(&self) -> (usize, usize) {
        match &self.splice.state {
            State::Following { .. } => (0, 0),
            State::Searching(search) => search.held(),
        }
    }
}

/// Pairs of bases of the timestamps of two origins. Some wrap on the way.
const BASES: [(u32, u32); 5] =
    [(0, 0), (1000, 5_000_000), (u32::MAX - 130, 7), (7, u32::MAX - 300), (1 << 31, (1 << 31) - 200)];

/// Pulls the first row from one origin and each of the others after a switch. Returns what comes after the first switch.
fn run(origins: &[&str], bases: (u32, u32)) -> String {
    let mut scene = Scene::new(bases.0);
    scene.pull(&format!("| {}", origins[0]), bases.0);
    scene.text.clear();
    for (at, origin) in origins[1..].iter().enumerate() {
        scene.switch();
        scene.pull(origin, if at % 2 == 0 { bases.1 } else { bases.0 });
    }
    scene.text.join(" ")
}

fn expect(rows: &[(&str, &[&str], &str)]) {
    for (name, origins, expected) in rows {
        for bases in BASES {
            assert_eq!(run(origins, bases), *expected, "{name}, bases {bases:?}");
        }
    }
}

/// Two GOPs of a stream: units 0 to 6.
const TWO_GOPS: &str = "m1 h1 g1 K p a p K p a";

#[test]
fn resumes_after_the_last_unit() {
    expect(&[
        ("an equal cache", &[TWO_GOPS, "@4 m1 h1 g1 K p a p | a p"], "resume p7 a8 p9"),
        ("a cache that ends with the record", &[TWO_GOPS, "@4 K p a | p c a"], "resume p7 c a8"),
        ("it lags", &[TWO_GOPS, "@0 h1 g1 K p | a p K p a p"], "resume p7"),
        ("it lags, no cache", &[TWO_GOPS, "@0 h1 g1 | K p a p K p a p"], "resume p7"),
        ("a long cache", &[&format!("{TWO_GOPS} K p"), "@0 K p a p K p a K p a K | p"], "resume a9 K10 p11"),
        ("it begins in a GOP", &[TWO_GOPS, "@1 p a p K p a p"], "resume p7"),
        ("it begins right before the last keyframe", &["K p a K", "@1 p a K p | K"], "resume p4 K5"),
        ("it omits video before a keyframe", &["K p a p K p a", "@2 a a @4 K p a p"], "resume p7"),
        ("the same metadata", &[TWO_GOPS, "@4 m1 K p a p"], "resume p7"),
        ("other metadata", &[TWO_GOPS, "@4 m2 h1 g1 K p a p m3"], "resume m2 p7 m3"),
        ("a sequence header that changed earlier", &["h1 K p h2 K p a", "@0 h1 K p h2 K p a p"], "resume p5"),
        ("a sequence header that changes later", &["h1 K p h2 K p a", "@2 h2 K p a h3 K"], "resume h3 K5"),
        ("other tracks", &["K t p K t p a", "@3 K t p a t"], "resume t7"),
        ("audio only", &["g1 a a a a a", "@2 g1 a a a a | a"], "resume a5 a6"),
        ("silence before other audio", &["a a as as as a a", "@3 as as a a a"], "resume a7"),
        ("equal starts of GOPs", &["Kx px ax p Kx px ax", "@4 Kx px ax p"], "resume p7"),
        ("black until later", &["Kx px ax Kx px ax", "@3 Kx px ax Kx px | p"], "resume K6 p7 p8"),
    ]);
}

#[test]
fn restarts_without_a_unique_match() {
    // The first keyframe of each cache is newer than the switch, or a live one follows.
    let live = "| K p p p p p p p";
    let rows: [(&str, &str, &str); 10] = [
        ("a loop that ends in a GOP", "Kx px ax Kx px", "@3 Kx px ax Kx px px px px px px"),
        ("a keyframe alone", "K p a K", "@3 K p p p p p p p p p"),
        ("two units", "K p a K p", "@3 K p p p p p p p p p"),
        ("no keyframe in common", "K p a p", "@1 p a p p K p p p p p p"),
        ("a unit is missing", "K p p a K p p a", "@4 K p a p p p p p p p"),
        ("a unit is added", "K p a K p a", "@3 K p px a p p p p p p"),
        ("another encoding", "Kx px px Kx px px", "@3 Ky py py py Ky py py py py py"),
        ("another GOP length", "K p p p K p p p", "@1 Ky p p p Ky p p p p p p p p"),
        ("another sequence header", "h1 K p a K p a", "@3 h2 K p a p p p p p p p p"),
        ("another audio header", "g1 K p a K p a", "@3 g2 K p a p p p p p p p p"),
    ];
    for (name, delivered, cache) in rows {
        for bases in BASES {
            let text = run(&[delivered, &format!("{cache} @20 {live}")], bases);
            let header = cache.split(' ').find(|token| token.starts_with(['h', 'g'])).unwrap_or_default();
            let expected = format!("restart {header} K20 p21 p22").replace("  ", " ");
            assert!(text.starts_with(&expected), "{name}: {text}");
        }
    }
}

#[test]
fn restarts_when_content_repeats_itself() {
    for (gop, count) in (1..9).flat_map(|gop| (1..20).map(move |count| (gop, count))) {
        let units = |range: std::ops::Range<usize>| {
            range.fold(String::new(), |text, at| text + if at % gop > 0 { "px ax " } else { "Kx ax " })
        };
        let newest = (count - 1) / gop * gop;
        let cache = format!("@{} {} | {}", 2 * newest, units(newest..count), units(count..count + 30));
        let text = run(&[&units(0..count), &cache], (0, 500));
        // A record of one GOP does not show that the next one is equal.
        let is_known = count > gop || count == 1;
        assert!(text.starts_with("restart K") || !is_known, "GOPs of {gop}, {count} delivered: {text}");
    }
}

#[test]
fn restarts_at_the_first_keyframe_that_is_newer_than_the_switch() {
    let delivered = "h1 g1 K p p p p p K p p";
    expect(&[
        (
            "a cache of old units",
            &[delivered, "@2 h2 m2 Ky py py py py py py py h3 | py Ky py py py py py py"],
            "restart m2 h3 K11 p12 p13 p14 p15 p16 p17",
        ),
        (
            "no cache",
            &[delivered, "@30 h2 | ay ay Ky py py py py py py py"],
            "restart h2 K32 p33 p34 p35 p36 p37 p38 p39",
        ),
        (
            "no cache, video before the keyframe",
            &[delivered, "@30 h2 | py py py py py py Ky py"],
            "restart h2 K36 p37",
        ),
        ("audio only", &["a a a a", "@9 g1 | ay ay ay ay ay ay ay"], "restart g1 a9 a10 a11 a12 a13 a14 a15"),
        (
            "two keyframes in the cache",
            &[delivered, "@2 Ky py py py Ky py py py Ky py | py py py py py py"],
            "restart K10 p11 p12 p13 p14 p15 p16 p17",
        ),
    ]);
}

#[test]
fn a_cached_keyframe_is_new_if_it_was_published_after_the_switch() {
    for (connecting, expected) in [(50, ""), (900, "restart K10")] {
        let mut scene = Scene::new(0);
        scene.pull("| K p a K p a", 0);
        scene.text.clear();
        scene.switch();
        scene.now += connecting;
        scene.pull(&format!("@10 Ky {}| py py py py py py py", "py ".repeat(10)), 0);
        assert_eq!(scene.text.join(" ").get(..11).unwrap_or_default(), expected, "{connecting} ms");
    }
}

#[test]
fn decides_by_time_when_no_tag_comes() {
    let mut scene = Scene::new(0);
    scene.pull("| K p a K p a", 0);
    scene.text.clear();
    scene.switch();
    assert_eq!(scene.splice.deadline(), None);
    scene.pull("@50 h1 K", 0);
    let deadline = Millis(scene.now + 200);
    assert_eq!(scene.splice.deadline(), Some(deadline));
    let early = scene.splice.elapse(Millis(deadline.0 - 1));
    scene.take(early, 0);
    assert!(scene.text.is_empty());
    let due = scene.splice.elapse(deadline);
    scene.take(due, 0);
    assert_eq!(scene.text.join(" "), "restart h1 K50");
    assert_eq!(scene.splice.deadline(), None);
}

#[test]
fn survives_switches_in_a_row() {
    expect(&[
        ("while it searches", &[TWO_GOPS, "@0 h2 K p", "@4 h1 K p a p a"], "resume p7 a8"),
        ("without a tag", &[TWO_GOPS, "", "", "@4 K p a p"], "resume p7"),
        (
            "after a match",
            &[TWO_GOPS, "@4 K p a p K p a", "@8 K p a p a"],
            "resume p7 K8 p9 a10 resume p11 a12",
        ),
        (
            "after a match without a unit",
            &[TWO_GOPS, "@4 K p a", "@0 K p a p K p a p a"],
            "resume resume p7 a8",
        ),
    ]);
    let (bases, ys) = ((3, 70_000), "Ky py py py py py py py");
    let text = run(&[TWO_GOPS, &format!("@40 | {ys} py"), "@40 Ky py py py py py py py py py p"], bases);
    assert_eq!(text, "restart K40 p41 p42 p43 p44 p45 p46 p47 p48 resume p49 p50");
}

#[test]
fn a_stream_without_units_begins_with_the_first_tag() {
    assert_eq!(run(&["m1 h1", "@3 h2 p K"], (0, 0)), "h2 p3 K4");
    let mut scene = Scene::new(500);
    scene.switch();
    scene.pull("@3 h1 p K", 500);
    assert_eq!(scene.text.join(" "), "h1 p3 K4");
}

#[test]
fn audio_restarts_without_video_that_does_not_come() {
    let audio = "ay ".repeat(150);
    let text = run(&[TWO_GOPS, &format!("@20 g1 | {audio}")], (0, 90_000));
    // After 5 s, 125 frames.
    assert!(text.starts_with("restart g1 a145 a146"), "{text}");
    let text = run(&[TWO_GOPS, &format!("@20 | {audio} p p p {audio} K")], (0, 90_000));
    assert!(text.starts_with("restart a145 a146"), "{text}");
    let text = run(&[TWO_GOPS, &format!("@20 h1 | {} K p p p p p p", "p ay ".repeat(150))], (0, 90_000));
    assert!(text.starts_with("restart h1 K320 p321"), "{text}");
}

#[test]
fn a_match_is_awaited_for_a_limited_time() {
    // 250 units are 10 s.
    for (count, expected) in [(240, "resume p243"), (260, "restart K0 p1 p2")] {
        let long = format!("K {}K p", "p ".repeat(count));
        let text = run(&[&long, &format!("@0 | {long} p")], (0, 0));
        assert!(text.starts_with(expected), "{count}: {text}");
    }
}

#[test]
fn timestamps_of_a_match_have_one_distance() {
    for (rounding, matches) in [(0, true), (9, true), (-9, true), (40, false), (-2000, false)] {
        let mut scene = Scene::new(0);
        scene.pull("| K p a K p a", 0);
        scene.text.clear();
        scene.switch();
        scene.pull("@3 K", 700);
        let rounded = dts('p', 4, 700).wrapping_add_signed(rounding);
        scene.push(tag('p', b"unit 4", rounded), 700);
        scene.pull("@5 a p", 700);
        let expected = if matches { "resume p6" } else { "" };
        assert_eq!(scene.text.join(" "), expected, "{rounding} ms");
    }
}

#[test]
fn what_is_held_is_bounded() {
    let large = vec![0x27; 1 << 20];
    // Each row: number of units of 1 MiB, their distance on arrival in milliseconds, and the number of units that a restart has.
    for (count, pace, restarted) in [(40, 0, None), (40, 10, Some(21)), (40, 1, None), (200, 5, Some(1))] {
        let mut scene = Scene::new(0);
        scene.pull("| K p a K p a", 0);
        scene.switch();
        let mut restart = None;
        for at in 0..count {
            let letter = if at == 0 || at == 100 { 'K' } else { 'p' };
            let body = [&[at as u8], &large[..]].concat();
            let delivery = scene.splice.push(tag(letter, &body, at * 5), Millis(scene.now));
            if let Delivery::Restarted(tags) = delivery {
                restart = Some(tags.len());
            }
            scene.now += pace;
            let (bytes, tags) = scene.held();
            assert!(bytes <= held::MAX_HELD_BYTES && tags <= held::MAX_HELD_TAGS, "{bytes} in {tags}");
        }
        assert_eq!(restart, restarted, "{count} {pace}");
    }
}

#[test]
fn a_doubtful_match_is_held_within_bounds() {
    let large = vec![0; 1 << 20];
    let body = |at: u8| if at < 3 { vec![at] } else { [&[at], &large[..]].concat() };
    let unit = |at: u8, base: u32| {
        let letter = if at == 0 { 'K' } else { 'p' };
        tag(letter, &body(at), base + u32::from(at) * 10)
    };
    // The record ends as it begins, and the connection continues like its start.
    let mut splice = Splice::default();
    for (at, base) in (0..60).map(|at| (at, 0)).chain((0..3).map(|at| (at, 600))) {
        splice.push(unit(at, base), Millis(0));
    }
    splice.switch(Millis(1000));
    let deliver = |at| match splice.push(unit(at, 0), Millis(1010 + i64::from(at) * 10)) {
        Delivery::Nothing => None,
        Delivery::Restarted(tags) => Some((at, tags.len())),
        other => panic!("{other:?}"),
    };
    let restart = (0..60).find_map(deliver);
    // The 33rd unit of 1 MiB, and all before it.
    assert_eq!(restart, Some((34, 35)));
}

#[test]
fn the_record_is_bounded() {
    let mut record = Record::default();
    let mut add = |letter, count| {
        for at in 0..count {
            record.add(&tag(letter, &[], at));
        }
        (record.len(), record.has_video())
    };
    let rows = [
        ('a', 5000, (record::MAX_AUDIO_UNITS, false)),
        ('K', 1, (record::MAX_AUDIO_UNITS + 1, true)),
        ('p', 9, (record::MAX_AUDIO_UNITS + 10, true)),
        ('K', 1, (11, true)),
        ('a', 4, (15, true)),
        ('K', 1, (6, true)),
        ('p', 5000, (record::MAX_AUDIO_UNITS, true)),
    ];
    for (letter, count, expected) in rows {
        assert_eq!(add(letter, count), expected, "{letter} {count}");
    }
}

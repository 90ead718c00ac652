//! A property test: random streams and random sequences of connections to origins, against a model that knows the true positions.
//!
//! `PROPTEST_CASES` is the number of sequences.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestCaseError, TestRunner};

use super::tests::{FRAME, dts, tag};
use super::*;

const SEQUENCES: u32 = 500;

/// Number of units at their pace after which the pace of a connection is known.
const PROBE: usize = 7;

/// A stream of an encoder, and the way in which it is pulled.
#[derive(Clone, Debug)]
struct Scenario {
    units: Vec<Sent>,
    /// Whether no two payloads are equal.
    distinct: bool,
    connections: Vec<Connection>,
}

/// A unit of the stream. Its position is its identity.
#[derive(Clone, Copy, Debug)]
struct Sent {
    letter: char,
    body: u8,
}

/// A connection to an origin, from the switch to its fault.
#[derive(Clone, Copy, Debug)]
struct Connection {
    base: u32,
    /// The first unit, the one that comes at its pace first, and the one after the last.
    begin: usize,
    live: usize,
    end: usize,
    /// Version of the sequence header.
    header: u8,
    /// Time from the last unit of the connection before to the switch, and to the first unit.
    delays: (i64, i64),
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let sent = |letters: &'static [char]| {
        let unit = (prop::sample::select(letters), prop_oneof![4 => Just(0_u8), 1 => 1..3_u8]);
        vec(unit.prop_map(|(letter, body)| Sent { letter, body }), 12..90)
    };
    let units = prop_oneof![
        4 => sent(&['K', 'p', 'p', 'p', 'a', 'a', 'a']),
        2 => sent(&['K', 'p', 'p', 'p', 'p', 'p', 'p', 'p', 'p', 'a', 'a', 'a', 'a', 'a', 'a', 'a']),
        1 => sent(&['a']),
        // The same GOP for ever.
        1 => (1..6_usize, 12..90_usize).prop_map(|(gop, count)| {
            (0..count).map(|at| Sent { letter: if at % gop == 0 { 'K' } else { 'a' }, body: 0 }).collect()
        }),
    ];
    (units, any::<bool>()).prop_flat_map(|(units, distinct)| {
        let connections = vec(connection(units.len()), 2..5);
        (Just(units), Just(distinct), connections).prop_map(|(units, distinct, connections)| Scenario {
            units,
            distinct,
            connections,
        })
    })
}

fn connection(count: usize) -> impl Strategy<Value = Connection> {
    let base = prop_oneof![Just(0), any::<u32>(), (0..4000_u32).prop_map(|before| u32::MAX - before)];
    let header = prop_oneof![9 => Just(0_u8), 1 => Just(1)];
    (base, 0..=count, 0..=count, 0..=count, header, (0..5000_i64, 0..1000_i64)).prop_map(
        |(base, one, two, three, header, delays)| {
            let mut positions = [one, two, three];
            positions.sort_unstable();
            let [begin, live, end] = positions;
            Connection { base, begin, live, end, header, delays }
        },
    )
}

/// The publisher of the edge's stream as the model knows it.
#[derive(Debug)]
struct Published {
    base: u32,
    header: u8,
    /// Positions of the first unit delivered, and after the last.
    start: usize,
    end: usize,
}

impl Scenario {
    fn body(&self, at: usize) -> Vec<u8> {
        if self.distinct { at.to_be_bytes().to_vec() } else { vec![self.units[at].body] }
    }

    fn has_video(&self, range: std::ops::Range<usize>) -> bool {
        self.units[range].iter().any(|unit| unit.letter != 'a')
    }

    /// Position of the first recorded unit.
    fn record_start(&self, published: &Published) -> usize {
        let delivered = published.start..published.end;
        let mut keyframes = delivered.rev().filter(|&at| self.units[at].letter == 'K');
        keyframes.nth(1).unwrap_or(published.start)
    }

    /// Position of the connection's first unit at which a match may begin.
    fn first_place(&self, published: &Published, connection: Connection) -> Option<usize> {
        let audio_only = !self.has_video(self.record_start(published)..published.end);
        (connection.begin..connection.end).find(|&at| audio_only || self.units[at].letter == 'K')
    }

    /// Whether payloads that are all distinct must match.
    fn must_match(&self, published: &Published, connection: Connection, place: usize) -> bool {
        let record = self.record_start(published)..published.end;
        let before = (place - connection.begin).min(place.saturating_sub(record.start)).min(2);
        record.contains(&place)
            && record.end - place + before >= 3
            && connection.end >= published.end
            && connection.header == published.header
    }

    fn run(&self) -> Result<(), TestCaseError> {
        let mut splice = Splice::default();
        let mut published: Option<Published> = None;
        let mut now = 0;
        for &connection in &self.connections {
            now += connection.delays.0;
            splice.switch(Millis(now));
            now += connection.delays.1;
            let (how, got) = self.pull(&mut splice, connection, &mut now);
            let units = got.iter().filter(|tag| tag.header.packet == crate::media::Packet::CODED_FRAME);
            let positions: Vec<usize> = units.map(|tag| tag.header.data_len as usize).collect();
            let range = positions.first().map(|&first| first..positions[positions.len() - 1] + 1);
            if let Some(range) = &range {
                prop_assert_eq!(&positions, &range.clone().collect::<Vec<_>>(), "in order, none missing");
                prop_assert_eq!(range.end, connection.end, "to the end of the connection");
            }
            let is_decided = !matches!(how, How::Undecided);
            let restarted = |start| Published {
                base: connection.base,
                header: connection.header,
                start,
                end: connection.end,
            };
            let Some(known) = &mut published else {
                // There was nothing to continue.
                published = range.map(|range| restarted(range.start));
                continue;
            };
            let place = self.first_place(known, connection);
            let record = self.record_start(known)..known.end;
            match how {
                How::Undecided => prop_assert!(got.is_empty()),
                How::Resumed => {
                    let place = place.ok_or_else(|| TestCaseError::fail("no place for a match"))?;
                    let start = range.map_or(connection.end, |range| range.start);
                    prop_assert_eq!(connection.header, known.header);
                    if start != known.end {
                        prop_assert!(!self.distinct && !record.contains(&place), "resumed at {}", start);
                        self.check_equal_tail(record, place..start, connection)?;
                        return Ok(());
                    }
                    for tag in &got {
                        self.check_time(tag, known.base)?;
                    }
                    known.end = connection.end.max(known.end);
                }
                How::Restarted => {
                    if self.distinct && place.is_some_and(|place| self.must_match(known, connection, place)) {
                        return Err(TestCaseError::fail("no match"));
                    }
                    let start = range.map_or(0, |range| range.start);
                    prop_assert_eq!(&got[0].payload[5..], [connection.header], "a sequence header first");
                    let is_audio_stream = !self.has_video(record) && !self.has_video(0..self.units.len());
                    prop_assert!(self.units[start].letter == 'K' || is_audio_stream);
                    for tag in &got {
                        self.check_time(tag, connection.base)?;
                    }
                    published = Some(restarted(start));
                    continue;
                }
            }
            if self.distinct && !is_decided {
                let is_match = place.is_some_and(|place| self.must_match(known, connection, place));
                let is_live = |at: usize| self.units[at].letter == 'K' && connection.end - at > PROBE;
                let lags = connection.end < known.end;
                let is_due = is_match || (!lags && (connection.live..connection.end).any(is_live));
                prop_assert!(!is_due, "not decided");
            }
        }
        Ok(())
    }

    /// Pulls the whole connection. Returns how it continued the stream, and the tags delivered.
    fn pull(&self, splice: &mut Splice, connection: Connection, now: &mut i64) -> (How, Vec<Tag>) {
        let (mut how, mut got) = (How::Undecided, Vec::new());
        let mut push = |mut tag: Tag, at: usize, now: i64| {
            // Where the model keeps the position; it is not compared.
            tag.header.data_len = at as u32;
            match splice.push(tag, Millis(now)) {
                Delivery::Nothing => {}
                Delivery::Next(tag) => got.push(tag),
                Delivery::Resumed(tags) => {
                    how = How::Resumed;
                    got.extend(tags);
                }
                Delivery::Restarted(tags) => {
                    how = How::Restarted;
                    got.extend(tags);
                }
            }
        };
        if self.has_video(0..self.units.len()) {
            push(tag('h', &[connection.header], 0), 0, *now);
        } else {
            push(tag('g', &[0, 0, 0, connection.header], 0), 0, *now);
        }
        for at in connection.begin..connection.end {
            let letter = self.units[at].letter;
            *now += if at >= connection.live { FRAME } else { 0 };
            push(tag(letter, &self.body(at), dts(letter, at as i64, connection.base)), at, *now);
        }
        (how, got)
    }

    fn check_time(&self, tag: &Tag, base: u32) -> Result<(), TestCaseError> {
        if tag.header.packet == crate::media::Packet::CODED_FRAME {
            let at = tag.header.data_len as usize;
            let expected = dts(self.units[at].letter, at as i64, base);
            prop_assert_eq!(tag.dts, Millis(i64::from(expected)));
        }
        Ok(())
    }

    /// Checks that no comparison of payloads could have told that `passed`, the units of the connection before those delivered,
    /// are not the last ones of the record.
    fn check_equal_tail(
        &self,
        record: std::ops::Range<usize>,
        passed: std::ops::Range<usize>,
        connection: Connection,
    ) -> Result<(), TestCaseError> {
        let count = passed.len().min(record.len());
        prop_assert!(count + 2.min(passed.start - connection.begin) >= 3);
        for back in 1..=count {
            let (old, new) = (self.units[record.end - back], self.units[passed.end - back]);
            prop_assert_eq!((old.letter, old.body), (new.letter, new.body));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Undecided,
    Resumed,
    Restarted,
}

#[test]
fn no_unit_is_repeated_or_missing_after_a_match() {
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(SEQUENCES);
    let runs = Runs { failure_persistence: None, ..Runs::with_cases(cases) };
    let result = TestRunner::new(runs).run(&scenarios(), |scenario| scenario.run());
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

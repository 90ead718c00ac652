//! Rules for the calls and blocks of any format.

use std::fmt;

use remuxd_plugin_api::BlockFlags;
use thiserror::Error;

use crate::media::{Millis, Tag, TagKind};
use crate::module::fault::ModuleFault;
use crate::module::output::OutBlock;

/// The call in which a module broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Making its remuxer.
    Start,
    /// The call with this tag.
    Tag {
        /// Its number in the sequence, from 0.
        number: usize,
        /// Its kind.
        kind: TagKind,
        /// Its time on the stream's timeline.
        dts: Millis,
    },
    /// Ending the stream.
    Finish,
    /// Returning the state for a successor.
    State,
    /// Freeing its remuxer.
    Free,
}

impl Moment {
    /// The call with `tag`, number `number` of the sequence.
    pub fn tag(number: usize, tag: &Tag) -> Moment {
        Moment::Tag { number, kind: tag.kind, dts: tag.dts }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Start => f.write_str("in remuxer()"),
            Moment::Tag { number, kind, dts } => write!(f, "at tag {number} ({kind:?}, {} ms)", dts.0),
            Moment::Finish => f.write_str("in finish()"),
            Moment::State => f.write_str("in state()"),
            Moment::Free => f.write_str("in drop"),
        }
    }
}

/// A rule that a module broke and the call. `Display` is one line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{moment}: {rule}")]
pub struct Breach {
    /// The call.
    pub moment: Moment,
    /// The rule.
    pub rule: Rule,
}

/// A rule that a module broke.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// No call fails.
    #[error("{0}")]
    Fault(#[from] ModuleFault),
    /// A block has at most one role.
    #[error("a block is {} at once", roles(*.0))]
    Roles(BlockFlags),
    /// The preamble comes before the first join.
    #[error("the first PREAMBLE comes after a JOIN: who joined there has none")]
    LatePreamble,
    /// A block has the time of an access unit inside, so that of an earlier tag.
    #[error("a block's dts is {} ms, that of the tags so far is {} to {} ms", .dts.0, .first.0, .last.0)]
    Time {
        /// The block's time.
        dts: Millis,
        /// Smallest time of the tags.
        first: Millis,
        /// Largest time of the tags.
        last: Millis,
    },
    /// A stream that the format can carry has a join point.
    #[error("no JOIN block in all of a stream that it can carry: nobody could watch")]
    NoJoin,
}

fn roles(flags: BlockFlags) -> String {
    let names =
        [(BlockFlags::PREAMBLE, "PREAMBLE"), (BlockFlags::CONFIG, "CONFIG"), (BlockFlags::JOIN, "JOIN")];
    let set: Vec<_> = names.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    set.join(" and ")
}

/// Checks the blocks of one remuxer in their order.
#[derive(Debug, Default)]
pub struct Watch {
    preamble_seen: bool,
    joins: usize,
    tags: Option<(Millis, Millis)>,
}

impl Watch {
    /// Records a tag that goes in.
    pub fn on_tag(&mut self, tag: &Tag) {
        let (first, last) = self.tags.unwrap_or((tag.dts, tag.dts));
        self.tags = Some((first.min(tag.dts), last.max(tag.dts)));
    }

    /// Checks a block that came out.
    pub fn on_block(&mut self, block: &OutBlock) -> Result<(), Rule> {
        if block.flags.0.count_ones() > 1 {
            return Err(Rule::Roles(block.flags));
        }
        match block.flags {
            BlockFlags::PREAMBLE if !self.preamble_seen && self.joins > 0 => return Err(Rule::LatePreamble),
            BlockFlags::PREAMBLE => self.preamble_seen = true,
            BlockFlags::JOIN => self.joins += 1,
            _ => {}
        }
        let (first, last) = self.tags.unwrap_or_default();
        // Preambles and configurations may have any time.
        let dated = matches!(block.flags, BlockFlags::NONE | BlockFlags::JOIN);
        if dated && !(first..=last).contains(&block.dts) {
            return Err(Rule::Time { dts: block.dts, first, last });
        }
        Ok(())
    }

    /// Number of join points so far.
    pub fn joins(&self) -> usize {
        self.joins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(flags: u8, dts: i64) -> OutBlock {
        OutBlock {
            flags: BlockFlags(flags),
            track: 0,
            dts: Millis(dts),
            parts: Default::default(),
            charge: None,
        }
    }

    /// Checks blocks after tags at 100 and 200 ms.
    fn judge(blocks: &[OutBlock]) -> Result<usize, String> {
        let mut watch = Watch::default();
        for dts in [200, 100] {
            watch.on_tag(&Tag::new(TagKind::AUDIO, Millis(dts), Default::default()));
        }
        for block in blocks {
            watch.on_block(block).map_err(|rule| rule.to_string())?;
        }
        Ok(watch.joins())
    }

    #[test]
    fn judges_blocks() {
        const PREAMBLE: u8 = 1;
        const CONFIG: u8 = 2;
        const JOIN: u8 = 4;
        let time = |dts| format!("a block's dts is {dts} ms, that of the tags so far is 100 to 200 ms");
        let late = "the first PREAMBLE comes after a JOIN: who joined there has none";
        let rows: [(&[OutBlock], _); 8] = [
            (&[block(PREAMBLE, 0), block(CONFIG, 0), block(JOIN, 100), block(0, 200)], Ok(1)),
            (&[block(PREAMBLE, 0), block(JOIN, 100), block(PREAMBLE, 0), block(JOIN, 200)], Ok(2)),
            (&[block(0, 150)], Ok(0)),
            (&[block(JOIN, 100), block(PREAMBLE, 100)], Err(late.into())),
            (&[block(CONFIG | JOIN, 100)], Err("a block is CONFIG and JOIN at once".into())),
            (&[block(7, 100)], Err("a block is PREAMBLE and CONFIG and JOIN at once".into())),
            (&[block(JOIN, 99)], Err(time(99))),
            (&[block(0, 201)], Err(time(201))),
        ];
        for (blocks, expected) in rows {
            assert_eq!(judge(blocks), expected, "{blocks:?}");
        }
    }

    #[test]
    fn names_the_call() {
        let tag = Tag::new(TagKind::VIDEO, Millis(40), Default::default());
        let breach = Breach { moment: Moment::tag(7, &tag), rule: Rule::NoJoin };
        assert!(breach.to_string().starts_with("at tag 7 (video, 40 ms): no JOIN block"), "{breach}");
    }
}

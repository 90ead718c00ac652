//! Run: plays a sequence to a remuxer and checks every call and block.

use remuxd_plugin_api::{Codec, Setup, StreamFacts};

use super::rules::{Breach, Moment, Rule, Watch};
use super::sequence::{self, Sequence};
use crate::media::{Packet, Tag, TagKind};
use crate::module::fault::ModuleFault;
use crate::module::loaded::Module;
use crate::module::options::resolve_options;
use crate::module::output::OutBlock;
use crate::module::remuxer::Remuxer;

/// A remuxer whose calls and blocks are checked.
pub struct Run {
    remuxer: Remuxer,
    watch: Watch,
    pub number: usize,
    /// The blocks so far.
    pub blocks: Vec<OutBlock>,
}

impl Run {
    /// Makes a remuxer.
    pub fn start(module: &Module, setup: &Setup) -> Result<Run, Breach> {
        let remuxer = module.remuxer(setup).map_err(|fault| at(Moment::Start)(fault.into()))?;
        Ok(Run { remuxer, watch: Watch::default(), number: 0, blocks: Vec::new() })
    }

    /// Feeds a tag.
    pub fn tag(&mut self, tag: &Tag) -> Result<(), Breach> {
        let moment = Moment::tag(self.number, tag);
        self.number += 1;
        self.watch.on_tag(tag);
        self.call(moment, |remuxer, out| remuxer.tag(tag, out))
    }

    /// Ends the stream.
    pub fn finish(&mut self) -> Result<(), Breach> {
        self.call(Moment::Finish, Remuxer::finish)
    }

    /// Returns the state for a successor.
    pub fn state(&mut self) -> Result<Vec<u8>, Breach> {
        self.remuxer.state().map_err(|fault| at(Moment::State)(fault.into()))
    }

    /// Frees the remuxer and returns its blocks.
    pub fn free(self) -> Result<Vec<OutBlock>, Breach> {
        self.remuxer.free().map_err(|fault| at(Moment::Free)(fault.into()))?;
        Ok(self.blocks)
    }

    /// Number of join points so far.
    pub fn joins(&self) -> usize {
        self.watch.joins()
    }

    fn call(
        &mut self,
        moment: Moment,
        call: impl FnOnce(&mut Remuxer, &mut Vec<OutBlock>) -> Result<(), ModuleFault>,
    ) -> Result<(), Breach> {
        let before = self.blocks.len();
        let answer = call(&mut self.remuxer, &mut self.blocks);
        let judged = self.blocks[before..].iter().try_for_each(|block| self.watch.on_block(block));
        answer.map_err(Rule::from).and(judged).map_err(at(moment))
    }
}

pub fn at(moment: Moment) -> impl FnOnce(Rule) -> Breach {
    move |rule| Breach { moment, rule }
}

/// Returns a setup with the module's default options for an unknown stream.
pub fn fresh(module: &Module) -> Setup {
    let options = resolve_options(module.options(), &[], std::iter::empty());
    // Defaults are checked with the description.
    Setup::new(options.unwrap_or_default(), StreamFacts::default())
}

/// Whether the module can carry a track of these tags.
pub fn carries(module: &Module, tags: &[Tag]) -> bool {
    let coded = |tag: &&Tag| tag.header.packet == Packet::CODED_FRAME;
    tags.iter().filter(coded).any(|tag| codecs(module, tag.kind).contains(&tag.header.codec))
}

fn codecs(module: &Module, kind: TagKind) -> &[Codec] {
    match kind {
        TagKind::VIDEO => module.video_codecs(),
        TagKind::AUDIO => module.audio_codecs(),
        _ => &[],
    }
}

/// Plays a short stream to a remuxer with default options, and to its successor: the last step of loading.
///
/// # Errors
/// The first rule that the module broke.
pub fn self_test(module: &Module) -> Result<(), Breach> {
    let Sequence { tags, .. } = sequence::self_test(module.video_codecs(), module.audio_codecs());
    let mut setup = fresh(module);
    for _ in 0..2 {
        let mut run = Run::start(module, &setup)?;
        tags.iter().try_for_each(|tag| run.tag(tag))?;
        run.finish()?;
        if carries(module, &tags) && run.joins() == 0 {
            return Err(at(Moment::Finish)(Rule::NoJoin));
        }
        setup.state = run.state()?;
        run.free()?;
    }
    Ok(())
}

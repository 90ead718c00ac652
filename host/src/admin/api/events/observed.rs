//! The host as subscribers see it at one moment.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::state::Api;
use crate::admin::api::Page;
use crate::admin::faults::FaultEntry;
use crate::admin::report::ReloadEntry;
use crate::admin::status::module_statuses;
use crate::admin::streams::{StreamList, StreamStatus};

/// A snapshot, which is compared with that of a second ago.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// By name.
    pub streams: BTreeMap<String, ObservedStream>,
    /// By name and generation.
    pub modules: BTreeMap<(String, u64), ObservedModule>,
    /// Those since the one before.
    pub faults: Vec<FaultEntry>,
    pub reloads: Vec<ReloadEntry>,
    /// Number of all faults and reloads so far.
    pub(super) known: [u64; 2],
}

#[derive(Clone, Debug, Default)]
pub(super) struct ObservedStream {
    /// The session of its publisher.
    pub publisher: Option<String>,
    pub media: Media,
    pub viewers: usize,
    pub kilobits_per_second: f64,
}

/// The codecs and the picture size of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Media {
    pub video: String,
    pub audio: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct ObservedModule {
    pub version: String,
    pub state: String,
    pub reason: Option<String>,
}

impl Observed {
    /// Looks at the host. Faults and reloads are those since `before`; none without it. Takes time for each session.
    pub fn of(api: &Api, before: Option<&Observed>) -> Observed {
        let known = before.map_or([u64::MAX; 2], |before| before.known);
        let page = Page { start: 0, count: Page::MAX_COUNT };
        let streams = StreamList::of(&api.hub, &api.access, true, page).streams;
        let modules = module_statuses(&api.registry, &api.hub).into_iter().map(|module| {
            let state = module.state.to_string();
            let observed = ObservedModule { version: module.version, state, reason: module.reason };
            ((module.name, module.generation), observed)
        });
        let (faults, new_faults) = api.faults.since(known[0]);
        let (reloads, mut new_reloads) =
            api.reloader.as_ref().map(|reloader| reloader.reports_since(known[1])).unwrap_or_default();
        // Events are the same for all who see them.
        new_reloads.iter_mut().for_each(|entry| entry.report.hide_values());
        Observed {
            streams: streams
                .into_iter()
                .map(|stream| (stream.name.clone(), ObservedStream::of(stream)))
                .collect(),
            modules: modules.collect(),
            faults: new_faults,
            reloads: new_reloads,
            known: [faults, reloads],
        }
    }
}

impl ObservedStream {
    fn of(stream: StreamStatus) -> ObservedStream {
        let StreamStatus { video, audio, width, height, viewers, kilobits_per_second, .. } = stream;
        // A publisher whose session has just ended is still one.
        let publisher = stream.publisher.map(|publisher| publisher.session.unwrap_or_default());
        let media = Media { video, audio, width, height };
        ObservedStream { publisher, media, viewers, kilobits_per_second }
    }
}

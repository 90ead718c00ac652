//! Totals of sessions by action, vhost and format, for metrics.
//!
//! The owners of sessions count in the records alone, so nothing that many sessions share is written for each batch. A record is
//! added to its group when its session ends. A reader adds the sessions that run, under the same lock, so that no total ever
//! becomes smaller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::group::Group;
use super::outcome::Outcome;
use super::session::Session;
use super::{Action, Protocol, Request};

/// The format of RTMP players, in metrics.
const RTMP: &str = "rtmp";

/// The totals of a group so far.
#[derive(Clone, Debug)]
pub struct GroupTotals {
    /// The group.
    pub group: Arc<Group>,
    /// The totals.
    pub done: Done,
    /// Number of publishers, or of viewers that get media.
    pub open: usize,
}

/// Totals of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes of media that were sent or received.
    pub bytes: u64,
    /// Times that one of them moved to a newer keyframe.
    pub skips: u64,
}

impl Done {
    /// Adds what a session has done.
    pub(super) fn add(&mut self, session: &Session) {
        self.bytes += session.bytes();
        self.skips += u64::from(session.skips());
    }
}

/// The labels of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    action: Action,
    vhost: Arc<str>,
    format: Box<str>,
}

/// The groups, and what their ended sessions have done. There are as many as vhosts and formats in the configs so far.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<Key, (Arc<Group>, Done)>,
    ends: BTreeMap<(Action, &'static str), u64>,
}

impl Groups {
    /// Returns the group of a session on `vhost`.
    pub fn group(&mut self, request: &Request, vhost: &Arc<str>) -> Arc<Group> {
        let action = request.action;
        let format: Box<str> = match (action, request.protocol) {
            (Action::Publish, _) => "".into(),
            (Action::Play, Protocol::Rtmp) => RTMP.into(),
            (Action::Play, _) => request.format.as_str().into(),
        };
        let key = Key { action, vhost: vhost.clone(), format };
        let (group, _) = self.groups.entry(key).or_insert_with_key(|Key { action, vhost, format }| {
            (Arc::new(Group::new(*action, vhost.clone(), format.clone())), Done::default())
        });
        group.clone()
    }

    /// Adds a session that ends.
    pub fn end(&mut self, session: &Session, outcome: &Outcome) {
        let Group { action, vhost, format, .. } = &**session.group();
        let key = Key { action: *action, vhost: vhost.clone(), format: format.clone() };
        if let Some((_, done)) = self.groups.get_mut(&key) {
            done.add(session);
        }
        *self.ends.entry((*action, outcome.name())).or_default() += 1;
    }

    /// Returns the totals of all groups, with `running` sessions.
    pub fn with<'a>(&self, running: impl Iterator<Item = &'a Session>) -> Vec<GroupTotals> {
        let mut totals: HashMap<*const Group, GroupTotals> = HashMap::new();
        for (group, done) in self.groups.values() {
            totals.insert(Arc::as_ptr(group), GroupTotals { group: group.clone(), done: *done, open: 0 });
        }
        for session in running {
            if let Some(totals) = totals.get_mut(&Arc::as_ptr(session.group())) {
                totals.done.add(session);
                totals.open += usize::from(session.is_served());
            }
        }
        let mut totals: Vec<_> = totals.into_values().collect();
        totals.sort_by(|one, other| {
            let key = |totals: &GroupTotals| (totals.group.vhost.clone(), totals.group.format.clone());
            key(one).cmp(&key(other))
        });
        totals
    }

    /// Returns the numbers of sessions that have ended, by action and kind of the end.
    pub fn ends(&self) -> Vec<(Action, &'static str, u64)> {
        self.ends.iter().map(|((action, end), count)| (*action, *end, *count)).collect()
    }
}

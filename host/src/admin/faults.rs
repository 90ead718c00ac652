//! The newest faults of modules, for the API.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use super::api::Page;
use crate::module::FaultNote;
use crate::stream::StreamKey;

/// Number of faults that are kept.
const MAX_FAULTS: usize = 200;

/// The newest faults.
#[derive(Debug, Default)]
pub struct FaultLog(Mutex<Faults>);

#[derive(Debug, Default)]
struct Faults {
    /// The newest last.
    newest: VecDeque<FaultEntry>,
    /// Number of all faults so far.
    count: u64,
}

/// A fault.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct FaultEntry {
    /// Its number since the host was started; the first is 1.
    pub number: u64,
    /// When it was, in RFC 3339.
    pub time: String,
    pub stream: String,
    pub module: String,
    pub generation: u64,
    /// The fault, in one line.
    pub fault: String,
}

/// A part of the list of faults, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FaultList {
    /// The number of faults that are kept, at most 200.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    /// The number of all faults since the host was started.
    pub count: u64,
    pub faults: Vec<FaultEntry>,
}

impl FaultLog {
    /// Adds a fault; the oldest goes if there are too many.
    pub fn add(&self, note: &FaultNote<'_>) {
        let FaultNote { vhost, app, stream, module, generation, fault } = note;
        let entry = FaultEntry {
            number: 0,
            time: time_of(SystemTime::now()),
            stream: StreamKey::new(vhost, app, stream).to_string(),
            module: (*module).to_owned(),
            generation: *generation,
            fault: fault.to_string(),
        };
        self.0.lock().add(entry);
    }

    pub(super) fn list(&self, page: Page) -> FaultList {
        let Faults { newest, count } = &*self.0.lock();
        let faults = page.cut(newest.iter().rev().cloned()).collect();
        FaultList { total: newest.len(), start: page.start, count: *count, faults }
    }

    /// Returns the number of all faults, and those after the first `known` ones, the oldest first.
    pub(super) fn since(&self, known: u64) -> (u64, Vec<FaultEntry>) {
        let Faults { newest, count } = &*self.0.lock();
        (*count, newest.iter().filter(|fault| fault.number > known).cloned().collect())
    }
}

impl Faults {
    fn add(&mut self, fault: FaultEntry) {
        self.count += 1;
        if self.newest.len() == MAX_FAULTS {
            self.newest.pop_front();
        }
        self.newest.push_back(FaultEntry { number: self.count, ..fault });
    }
}

/// Returns a time in RFC 3339.
pub(super) fn time_of(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_faults_are_kept() {
        let log = FaultLog::default();
        let fault = FaultEntry {
            number: 0,
            time: String::new(),
            stream: "live/film".to_owned(),
            module: "m".to_owned(),
            generation: 1,
            fault: String::new(),
        };
        for _ in 0..MAX_FAULTS + 5 {
            log.0.lock().add(fault.clone());
        }
        let list = log.list(Page { start: 1, count: 2 });
        let numbers: Vec<_> = list.faults.iter().map(|fault| fault.number).collect();
        assert_eq!((list.total, list.count, numbers), (MAX_FAULTS, 205, vec![204, 203]));
        let (count, newer) = log.since(203);
        assert_eq!((count, newer.iter().map(|fault| fault.number).collect()), (205, vec![204, 205]));
    }
}

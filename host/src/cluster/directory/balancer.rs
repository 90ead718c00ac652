//! The balancer: the tasks that keep the nodes of lists and the targets of redirects up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::list;
use super::roster::Roster;
use super::targets::{Meter, targets};
use crate::conf::{Current, Directory, DirectoryKind};
use crate::lifecycle::Lifecycle;
use crate::policy::{Access, Outbound, Regions, Targets};

/// Interval in which the own load is measured, which takes time for each session.
const MEASURE: Duration = Duration::from_secs(2);

/// Interval in which the targets are replaced, and of checks whether a list is due.
const CHECK: Duration = Duration::from_millis(250);

/// The longest time for a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a connection to the server of a list.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The tasks that keep the nodes up to date.
#[derive(Debug)]
pub struct Balancer {
    /// The config in force.
    pub current: Arc<Current>,
    /// The sessions, by which the own load is measured, and the targets.
    pub access: Arc<Access>,
    /// A node that leaves is no target.
    pub lifecycle: Lifecycle,
    /// The nodes.
    pub roster: Arc<Roster>,
}

impl Balancer {
    /// Runs until the host stops.
    pub async fn run(self) {
        tokio::select! {
            ((), ()) = async { tokio::join!(self.measure(), self.read_lists()) } => {}
            () = self.lifecycle.stopping() => {}
        }
    }

    /// Measures the own load, and replaces the targets.
    async fn measure(&self) {
        let (mut meter, mut ticks) = (Meter::new(), interval(CHECK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut measured, mut config) = (None, self.current.config());
        let mut regions = Arc::new(Regions::new(&config.cluster.directory.regions));
        let mut last = None;
        loop {
            ticks.tick().await;
            let newest = self.current.config();
            if !Arc::ptr_eq(&newest, &config) {
                regions = Arc::new(Regions::new(&newest.cluster.directory.regions));
                config = newest;
                last = None;
            }
            let (directory, now) = (&config.cluster.directory, Instant::now());
            let is_used = directory.is_used();
            if is_used && measured.is_none_or(|at| now.saturating_duration_since(at) >= MEASURE) {
                measured = Some(now);
                let (traffic, lag) = (self.access.traffic(), self.access.load().least());
                self.roster.set_load(meter.measure(traffic, lag, directory.max_bitrate, now));
            }
            let name = self.access.node();
            let own = (is_used && self.lifecycle.is_ready()).then(|| self.roster.own(directory, &name));
            let nodes = if is_used { self.roster.nodes() } else { Arc::default() };
            let newest = Some((nodes, own));
            if newest == last {
                continue;
            }
            if let Some((nodes, own)) = &newest {
                let nodes = targets(nodes, own.as_ref(), &name);
                let targets = Targets::new(nodes, regions.clone(), config.limits.max_lag);
                self.access.targets().store(Arc::new(targets));
            }
            last = newest;
        }
    }

    /// Reads the lists of the config, and of the URL that it names.
    async fn read_lists(&self) {
        let mut ticks = interval(CHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut asked: Option<(Directory, Instant)> = None;
        let mut outbound = None;
        loop {
            ticks.tick().await;
            let config = self.current.config();
            let directory = &config.cluster.directory;
            match directory.kind {
                DirectoryKind::None => self.roster.replace(Vec::new()),
                DirectoryKind::Static => self.roster.replace(list::of_config(directory)),
                DirectoryKind::Http => {
                    let is_due = asked
                        .as_ref()
                        .is_none_or(|(last, at)| last != directory || at.elapsed() >= directory.lease / 2);
                    if !is_due {
                        continue;
                    }
                    if outbound.is_none() {
                        // The first one of a process reads the certificates of the system.
                        let opened = tokio::task::spawn_blocking(|| Outbound::new(CONNECT_TIMEOUT)).await;
                        outbound = opened.ok();
                    }
                    asked = Some((directory.clone(), Instant::now()));
                    let (Some(outbound), Some(url)) = (&outbound, directory.urls.first()) else { continue };
                    let timeout = LIST_TIMEOUT.min(directory.lease);
                    let list = list::ask(outbound, url, timeout, &config.cluster.allow).await;
                    self.roster.take(list, Instant::now());
                }
                DirectoryKind::Redis => {}
            }
        }
    }
}

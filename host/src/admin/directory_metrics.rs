//! Metrics of the directory of the cluster. Without one they are there without values, or 0.

use super::exposition::{Kind, Page};
use crate::cluster::Directory;
use crate::conf::DirectoryKind;

/// Adds the families of the directory.
pub(super) fn directory_families(page: &mut Page, directory: Option<&Directory>) {
    let facts = directory.map(Directory::facts);
    let used = facts.as_ref().filter(|facts| facts.kind != DirectoryKind::None);
    let help = "Whether the directory of the cluster answers.";
    let mut family = page.family(Kind::Gauge, "remuxd_directory_up", &[], help);
    if let Some(facts) = used {
        family.add([], usize::from(facts.is_up));
    }
    let help = "Seconds since the directory answered last.";
    let mut family = page.family(Kind::Gauge, "remuxd_directory_answer_age_seconds", &[], help);
    if let Some(age) = used.and_then(|facts| facts.age) {
        family.add([], age.as_secs_f64());
    }
    let nodes = facts.as_ref().map_or(0, |facts| facts.nodes);
    let (own, followed) = facts.as_ref().map_or((0, 0), |facts| facts.streams);
    let errors = facts.as_ref().map_or(0, |facts| facts.errors);
    page.gauge("remuxd_directory_nodes", nodes, "Nodes that the directory has.");
    page.gauge("remuxd_directory_own_streams", own, "Publishers of this node that are in the directory.");
    page.gauge(
        "remuxd_directory_followed_streams",
        followed,
        "Streams of which the directory notifies this node.",
    );
    page.counter(
        "remuxd_directory_errors_total",
        errors,
        "Connections to the directory that failed or ended, and errors that it replied with.",
    );
    let counts = facts.as_ref().map(|facts| facts.counts.clone()).unwrap_or_default();
    page.counter(
        "remuxd_directory_connects_total",
        counts.connects,
        "Connections to the directory that were opened.",
    );
    page.counter("remuxd_directory_lookups_total", counts.lookups, "Lookups of streams.");
    page.counter("remuxd_directory_claims_total", counts.claims, "Publishers that were entered.");
    page.counter(
        "remuxd_directory_local_claims_total",
        counts.local_claims,
        "Publishers that were accepted without an answer of the directory.",
    );
    page.counter(
        "remuxd_directory_busy_total",
        counts.busy,
        "Publishers that were refused, since another credential has the stream at another node.",
    );
    page.counter(
        "remuxd_directory_lost_total",
        counts.lost,
        "Publishers that ended, since the stream has a newer one at another node.",
    );
    page.counter(
        "remuxd_directory_moves_total",
        counts.moves,
        "Pulls that were taken to another origin, since the stream has a newer publisher there.",
    );
    page.counter(
        "remuxd_directory_presented_total",
        counts.presented,
        "Entries that this node has presented to a directory that had lost them.",
    );
    let help = "Entries of the directory that were refused.";
    let mut family = page.family(Kind::Counter, "remuxd_directory_refused_entries_total", &["reason"], help);
    for (reason, count) in facts.iter().flat_map(|facts| &facts.refused) {
        family.add([reason], count);
    }
}

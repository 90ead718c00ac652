//! The figures of all runs, as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::agenda::{SECOND, Time};
use crate::ledger::{Ledger, shares};
use crate::plan::Plan;
use crate::redis::Command;

pub struct Report {
    plan: Plan,
    runs: Vec<Value>,
}

impl Report {
    pub fn new(plan: &Plan) -> Report {
        Report { plan: plan.clone(), runs: Vec::new() }
    }

    pub fn add(&mut self, scene: &str, rules: &str, ledger: &Ledger) {
        let (fault, calm) = (self.plan.fault, self.plan.fault - 20 * SECOND);
        let seconds =
            |times: [Option<Time>; 4]| times.map(|time| time.map(|time| time as f64 / SECOND as f64));
        let busiest = ledger.pulls.iter().max_by_key(|origin| origin.peak(fault));
        let kinds: serde_json::Map<_, _> = Command::ALL
            .iter()
            .map(|(name, command)| {
                let series = &ledger.commands[*command as usize];
                let figures = json!({"calm": series.mean(calm, fault), "peak": series.peak(fault)});
                ((*name).to_owned(), figures)
            })
            .collect();
        self.runs.push(json!({
            "scene": scene,
            "rules": rules,
            "streams": {"lost": ledger.streams_lost, "back": seconds(shares(&ledger.streams_back, ledger.streams_lost))},
            "viewers": {
                "lost": ledger.viewers_lost,
                "left": ledger.viewers_left,
                "back": seconds(shares(&ledger.viewers_back, ledger.viewers_lost - ledger.viewers_left)),
                "refused": ledger.refused,
            },
            "redis": {
                "calm": ledger.all_commands.mean(calm, fault),
                "peak": ledger.all_commands.peak(fault),
                "spike": ledger.all_commands.spike(fault),
                "timeouts": ledger.timeouts,
                "unanswered": ledger.unanswered,
                "notifications": ledger.notifications.total(),
                "kinds": kinds,
            },
            "pulls": {
                "calm": ledger.pulls.iter().map(|origin| origin.mean(calm, fault)).fold(0.0, f64::max),
                "peak": busiest.map(|origin| origin.peak(fault)),
                "spike": ledger.pulls.iter().map(|origin| origin.spike(fault)).max(),
                "failed": ledger.failed_pulls.total(),
                "failed_spike": ledger.failed_pulls.spike(fault),
                "pending": ledger.most_pending,
                "burst_bytes": ledger.burst_bytes.mean(fault, self.plan.end) * (self.plan.end - fault) as f64 / SECOND as f64,
            },
            "series": {
                "redis": ledger.all_commands.seconds(),
                "pulls": ledger.pulls_by_second(),
                "failed": ledger.failed_pulls.seconds(),
                "dark": ledger.dark,
            },
        }));
    }

    /// Returns a line for each run. Times are seconds after the fault.
    pub fn table(&self) -> String {
        let mut lines = format!(
            "{:8} {:10} {:>7} {:>23}  {:>7} {:>23} {:>8}  {:>21} {:>7}  {:>13} {:>7} {:>7} {:>6}\n",
            "scene",
            "rules",
            "streams",
            "50/95/99/100 % s",
            "viewers",
            "50/95/99/100 % s",
            "refused",
            "redis/s calm/peak/0.1s",
            "timeout",
            "pulls/s/0.1s",
            "failed",
            "pending",
            "GB"
        );
        for run in &self.runs {
            let back = |of: &str| {
                let times = run[of]["back"].as_array().map_or(&[][..], Vec::as_slice);
                times
                    .iter()
                    .map(|time| time.as_f64().map_or("-".into(), |time| format!("{time:.1}")))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let number = |of: &str, name: &str| run[of][name].as_f64().unwrap_or(0.0);
            let _ = writeln!(
                lines,
                "{:8} {:10} {:>7} {:>23}  {:>7} {:>23} {:>8}  {:>6.0} {:>6.0} {:>7.0} {:>7}  {:>6.0} {:>6.0} {:>7} {:>7} {:>6.1}",
                run["scene"].as_str().unwrap_or(""),
                run["rules"].as_str().unwrap_or(""),
                number("streams", "lost"),
                back("streams"),
                number("viewers", "lost"),
                back("viewers"),
                number("viewers", "refused"),
                number("redis", "calm"),
                number("redis", "peak"),
                number("redis", "spike"),
                number("redis", "timeouts"),
                number("pulls", "peak"),
                number("pulls", "spike"),
                number("pulls", "failed"),
                number("pulls", "pending"),
                number("pulls", "burst_bytes") / 1e9,
            );
        }
        lines
    }

    pub fn json(&self) -> String {
        let plan = &self.plan;
        let facts = json!({
            "origins": plan.origins, "edges": plan.edges, "regions": plan.regions, "streams": plan.streams,
            "viewers": plan.viewers, "fault": plan.fault / SECOND, "end": plan.end / SECOND, "seed": plan.seed,
        });
        json!({"plan": facts, "runs": self.runs}).to_string()
    }
}

//! A simulation of a failover storm: 100 edges and 10,000 streams, when an origin, a region or Redis fails.
//!
//! It has a clock of its own, and the same seed gives the same run. Rules and figures are those of the host, some of them its own code;
//! `plan.rs` has what is assumed about networks, encoders and viewers. Each scene runs as the host does, without jitter, and without
//! the cap on pulls. Prints a table; see `run` beside this file, which also draws.
//!
//! `simulation [--seed NUMBER] [--scenes NAME,NAME] [--json FILE]`

mod agenda;
mod directory;
mod ledger;
mod plan;
mod redis;
mod report;
mod storm;
#[cfg(test)]
mod tests;
mod world;

use std::process::ExitCode;

use crate::plan::{Limits, Plan, Rules, Scene};
use crate::report::Report;
use crate::storm::Storm;

fn main() -> ExitCode {
    match simulate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate() -> Result<(), String> {
    let (mut plan, mut json, mut scenes) = (Plan::default(), None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seed" => plan.seed = value.parse().map_err(|_| format!("{value:?} is no number"))?,
            "--scenes" => scenes = Some(value.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--json" => json = Some(value),
            _ => return Err(format!("no such option: {name}")),
        }
    }
    let mut report = Report::new(&plan);
    for (scene_name, scene) in Scene::ALL {
        if scenes.as_ref().is_some_and(|wanted| !wanted.iter().any(|name| name == scene_name)) {
            continue;
        }
        for (rules_name, rules) in Rules::ALL {
            let ledger = Storm::new(&plan, Limits::of_host(), rules, scene).run();
            report.add(scene_name, rules_name, &ledger);
        }
    }
    print!("{}", report.table());
    match json {
        Some(path) => std::fs::write(&path, report.json()).map_err(|error| format!("{path}: {error}")),
        None => Ok(()),
    }
}

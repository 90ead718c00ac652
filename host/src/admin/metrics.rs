//! Metrics: numbers for Prometheus, in its text format 0.0.4.

use std::fmt::{Display, Write};

use super::api::{Api, ModuleStatus};
use super::report::Verdict;

/// The page of all metrics.
pub(super) fn page(api: &Api) -> String {
    let modules = api.modules();
    let mut page = String::new();
    let mut generations: Vec<(&str, usize)> = Vec::new();
    for module in &modules {
        match generations.last_mut() {
            Some((name, count)) if *name == module.name => *count += 1,
            _ => generations.push((&module.name, 1)),
        }
    }
    family(
        &mut page,
        ("remuxd_module_generations", "gauge", "Generations of a module that are mapped."),
        generations.iter().map(|(name, count)| (format!("module=\"{name}\""), *count)),
    );
    let mut by_generation = |name, kind, help, value: fn(&ModuleStatus) -> u64| {
        let samples = modules.iter().map(|module| (labels(module), value(module)));
        family(&mut page, (name, kind, help), samples);
    };
    by_generation(
        "remuxd_module_memory_bytes",
        "gauge",
        "Address space of a generation's image.",
        |module| module.retained_bytes,
    );
    by_generation("remuxd_module_mounts", "gauge", "Live mounts that a generation remuxes.", |module| {
        module.mounts as u64
    });
    by_generation("remuxd_module_viewers", "gauge", "Viewers of a generation's mounts.", |module| {
        module.viewers as u64
    });
    by_generation("remuxd_module_faults_total", "counter", "Faults of a generation's remuxers.", |module| {
        module.faults
    });
    family(
        &mut page,
        ("remuxd_module_state", "gauge", "1 for the state that a generation is in."),
        modules.iter().map(|module| (format!("{},state=\"{}\"", labels(module), module.state), 1)),
    );
    family(
        &mut page,
        ("remuxd_hung_threads", "gauge", "Threads that hang in a module call."),
        [(String::new(), api.pool.hung())],
    );
    family(
        &mut page,
        ("remuxd_streams", "gauge", "Streams that are live or whose viewers wait."),
        [(String::new(), api.hub.streams().len())],
    );
    family(
        &mut page,
        ("remuxd_waiting", "gauge", "Viewers and players that wait for a stream to be published."),
        [(String::new(), api.hub.waiting())],
    );
    if let Some(reloader) = &api.reloader {
        let verdicts =
            [("applied", Verdict::Applied), ("unchanged", Verdict::Unchanged), ("refused", Verdict::Refused)];
        let samples =
            verdicts.map(|(name, verdict)| (format!("verdict=\"{name}\""), reloader.count(verdict)));
        family(&mut page, ("remuxd_reloads_total", "counter", "Reloads, without dry runs."), samples);
    }
    page
}

/// What stays the same in the life of a generation. Names and numbers need no escape, nor do states.
fn labels(module: &ModuleStatus) -> String {
    let ModuleStatus { name, generation, .. } = module;
    format!("module=\"{name}\",generation=\"{generation}\"")
}

fn family(
    page: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl IntoIterator<Item = (String, impl Display)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = match labels.as_str() {
            "" => writeln!(page, "{name} {value}"),
            _ => writeln!(page, "{name}{{{labels}}} {value}"),
        };
    }
}

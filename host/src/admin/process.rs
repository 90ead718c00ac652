//! Facts about the host's process, as Prometheus's own client libraries report them.

use std::fs;
use std::io;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The facts about the process that the kernel reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessFacts {
    /// User and system time.
    pub cpu_seconds: f64,
    pub threads: u64,
    /// Since 1970.
    pub start_seconds: f64,
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
    pub open_files: u64,
    /// The soft limit.
    pub max_files: u64,
}

impl ProcessFacts {
    /// Asks the kernel. Blocks for some milliseconds if many files are open.
    pub(super) fn read() -> io::Result<ProcessFacts> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let boot = fs::read_to_string("/proc/stat")?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok()).unwrap_or(0.0);
        let facts = parse(&stat, boot, clock_ticks_per_second() as f64, page_size() as u64);
        Ok(ProcessFacts {
            open_files: fs::read_dir("/proc/self/fd")?.count() as u64,
            max_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            ..facts.ok_or(io::ErrorKind::InvalidData)?
        })
    }
}

/// Reads the fields of `/proc/PID/stat` (proc_pid_stat(5)) that follow the name, which may have any characters.
fn parse(stat: &str, boot_seconds: f64, ticks_per_second: f64, page: u64) -> Option<ProcessFacts> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // The first of them is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessFacts {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks_per_second,
        threads: field(20)?,
        start_seconds: boot_seconds + field(22)? as f64 / ticks_per_second,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
        ..ProcessFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 12300 1000000 25 18446744073709551615 1";
        let facts = parse(stat, 1_000.0, 100.0, 4096).unwrap();
        assert_eq!(
            facts,
            ProcessFacts {
                cpu_seconds: 3.0,
                threads: 7,
                start_seconds: 1_123.0,
                virtual_bytes: 1_000_000,
                resident_bytes: 25 * 4096,
                ..ProcessFacts::default()
            }
        );
        for bad in ["", "42 (a) S", "42 a S 1"] {
            assert_eq!(parse(bad, 0.0, 100.0, 4096), None, "{bad}");
        }
    }

    #[test]
    fn the_kernel_answers() {
        let facts = ProcessFacts::read().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(facts.threads > 0 && facts.resident_bytes > 1 << 20 && facts.open_files > 2, "{facts:?}");
        // The clock of the machine may have been set since it started.
        assert!((facts.start_seconds - now).abs() < 3600.0, "{facts:?} at {now}");
    }
}

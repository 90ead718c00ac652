//! Facts about the machine and the process, as Linux reports them in /proc.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;

use rustix::param::{clock_ticks_per_second, page_size};

/// Processor time since the machine, and since the process was started, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    /// Time of all processors, idle or not.
    pub total: u64,
    pub idle: u64,
    /// Time of this process.
    pub own: u64,
    /// Kilobytes that were read from and written to disks.
    pub disk: [u64; 2],
}

impl Sub for Ticks {
    type Output = Ticks;

    fn sub(self, other: Ticks) -> Ticks {
        let disk = [0, 1].map(|index| self.disk[index].saturating_sub(other.disk[index]));
        Ticks {
            total: self.total.saturating_sub(other.total),
            idle: self.idle.saturating_sub(other.idle),
            own: self.own.saturating_sub(other.own),
            disk,
        }
    }
}

/// The facts. Those that cannot be read are 0.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// The fields of `/proc/self/stat` from `ppid` on, in their order (proc_pid_stat(5)).
    pub stat: Vec<i64>,
    /// Name and state of the process.
    pub name: String,
    pub state: String,
    /// Numbers of `/proc/self/status` by name.
    pub status: BTreeMap<String, u64>,
    /// The times of all processors: user, nice, system, idle, iowait, irq, softirq, steal, guest.
    pub processors: Vec<u64>,
    /// Number of processors, present and online.
    pub cpus: [usize; 2],
    /// Numbers of `/proc/meminfo` by name, in kilobytes.
    pub memory: BTreeMap<String, u64>,
    /// Averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Seconds since the start, and seconds that all processors were idle.
    pub uptime: [f64; 2],
    /// Bytes received and sent by devices, and by the loopback device.
    pub network: [u64; 2],
    pub loopback: [u64; 2],
    /// TCP sockets in use, established and in TIME_WAIT; UDP sockets.
    pub sockets: [u64; 4],
    pub ticks: Ticks,
    /// When the process was started, in seconds since the machine was.
    pub started: f64,
}

impl Machine {
    /// Reads everything. Blocks for a moment.
    pub fn read() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Machine::parse(&Texts {
            own: &read("/proc/self/stat"),
            status: &read("/proc/self/status"),
            stat: &read("/proc/stat"),
            present: &read("/sys/devices/system/cpu/present"),
            meminfo: &read("/proc/meminfo"),
            loadavg: &read("/proc/loadavg"),
            uptime: &read("/proc/uptime"),
            net: &read("/proc/net/dev"),
            sockstat: &read("/proc/net/sockstat"),
            snmp: &read("/proc/net/snmp"),
            vmstat: &read("/proc/vmstat"),
        })
    }

    fn parse(texts: &Texts<'_>) -> Machine {
        // The name of the process may have any characters.
        let (name, fields) = texts.own.rsplit_once(") ").unwrap_or_default();
        let name = name.split_once('(').map_or("", |(_, name)| name).to_owned();
        let (state, fields) = fields.split_once(' ').unwrap_or_default();
        let stat: Vec<i64> = fields.split_whitespace().map(wrapped).collect();
        let processors = line(texts.stat, "cpu ");
        let total: u64 = processors.iter().take(8).sum();
        let at = |index: usize| stat.get(index).map_or(0, |value| value.unsigned_abs());
        let online = texts.stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
        let online = online.count();
        let vmstat = |name| line(texts.vmstat, name).first().copied().unwrap_or(0);
        let (loopback, network) = devices(texts.net);
        let sockets = |name, key| pair(texts.sockstat, name, key);
        Machine {
            ticks: Ticks {
                total,
                idle: processors.get(3).copied().unwrap_or(0),
                own: at(field::UTIME) + at(field::STIME),
                disk: [vmstat("pgpgin "), vmstat("pgpgout ")],
            },
            started: at(field::START) as f64 / clock_ticks_per_second() as f64,
            stat,
            name,
            state: state.to_owned(),
            status: named(texts.status),
            processors,
            cpus: [highest(texts.present).map_or(online, |last| last + 1), online],
            memory: named(texts.meminfo),
            load: decimals(texts.loadavg),
            uptime: decimals(texts.uptime),
            network,
            loopback,
            sockets: [
                sockets("TCP:", "inuse"),
                established(texts.snmp),
                sockets("TCP:", "tw"),
                sockets("UDP:", "inuse"),
            ],
        }
    }

    /// Returns a number of `/proc/self/stat`, by its place in [`Machine::stat`].
    pub fn own(&self, index: usize) -> i64 {
        self.stat.get(index).copied().unwrap_or(0)
    }

    /// Returns a number of `/proc/meminfo`, in kilobytes.
    pub fn kilobytes(&self, name: &str) -> u64 {
        self.memory.get(name).copied().unwrap_or(0)
    }

    /// Returns a number of `/proc/self/status`.
    pub fn status(&self, name: &str) -> u64 {
        self.status.get(name).copied().unwrap_or(0)
    }

    /// Memory of the process, in kilobytes.
    pub fn resident(&self) -> u64 {
        self.own(field::RSS).unsigned_abs() * (page_size() as u64 >> 10)
    }
}

/// Places in [`Machine::stat`].
pub(super) mod field {
    pub const PPID: usize = 0;
    pub const MINFLT: usize = 6;
    pub const MAJFLT: usize = 8;
    pub const UTIME: usize = 10;
    pub const STIME: usize = 11;
    pub const START: usize = 18;
    pub const RSS: usize = 20;
}

/// The facts in the kernel's files.
#[derive(Default)]
struct Texts<'a> {
    own: &'a str,
    status: &'a str,
    stat: &'a str,
    present: &'a str,
    meminfo: &'a str,
    loadavg: &'a str,
    uptime: &'a str,
    net: &'a str,
    sockstat: &'a str,
    snmp: &'a str,
    vmstat: &'a str,
}

/// Reads a number; one over the largest `i64` wraps, as it does in SRS.
fn wrapped(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| text.parse::<u64>().map_or(0, |number| number as i64))
}

/// Returns the numbers of the line with this start.
fn line(text: &str, start: &str) -> Vec<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
    line.split_whitespace().map_while(|number| number.parse().ok()).collect()
}

/// Returns the first number of each line that is `NAME: NUMBER ...`.
fn named(text: &str) -> BTreeMap<String, u64> {
    let number = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// Returns the number after a word of the line with this start: `TCP: inuse 5 tw 2`.
fn pair(text: &str, start: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != key);
    words.nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns `CurrEstab` of the two lines about TCP: names, then numbers.
fn established(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    pairs.find(|(name, _)| *name == "CurrEstab").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Returns the bytes that were received and sent by the loopback device, and by all others.
fn devices(net: &str) -> ([u64; 2], [u64; 2]) {
    let (mut loopback, mut others) = ([0; 2], [0; 2]);
    for line in net.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let sum = if name.trim() == "lo" { &mut loopback } else { &mut others };
        for (sum, index) in sum.iter_mut().zip([0, 8]) {
            *sum += numbers.get(index).copied().unwrap_or(0);
        }
    }
    (loopback, others)
}

/// Returns the last number of a list of ranges: `0-3`.
fn highest(ranges: &str) -> Option<usize> {
    ranges.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Returns the first numbers of a text.
fn decimals<const COUNT: usize>(text: &str) -> [f64; COUNT] {
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_files() {
        let machine = Machine::parse(&Texts {
            own: "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 12300 1000000 25 18446744073709551615 1",
            status: "Name:\ta\nVmHWM:\t    4000 kB\nnonvoluntary_ctxt_switches:\t5\n",
            stat: "cpu  10 1 5 80 2 1 1 0 0 0\ncpu0 5 1 3 40 1 1 0 0 0 0\ncpu1 5 0 2 40 1 0 1 0 0 0\nbtime 1\n",
            present: "0-3\n",
            meminfo: "MemTotal:       1000 kB\nMemFree:         400 kB\nHugePages_Total:       0\n",
            loadavg: "0.50 0.25 0.10 1/200 300\n",
            uptime: "100.50 150.25\n",
            net: "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n",
            sockstat: "sockets: used 10\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1\nUDP: inuse 3 mem 0\n",
            snmp: "Ip: A\nIp: 1\nTcp: ActiveOpens CurrEstab InSegs\nTcp: 9 4 8\n",
            vmstat: "pgpgin 11\npgpgout 12\n",
        });
        assert_eq!((&*machine.name, &*machine.state, machine.own(field::PPID)), ("a) b (c)", "S", 1));
        assert_eq!(machine.stat[21], -1, "wraps");
        assert_eq!((machine.status("VmHWM"), machine.status("none")), (4000, 0));
        assert_eq!(machine.ticks, Ticks { total: 100, idle: 80, own: 300, disk: [11, 12] });
        assert_eq!((machine.cpus, machine.kilobytes("MemFree")), ([4, 2], 400));
        assert_eq!((machine.load, machine.uptime), ([0.5, 0.25, 0.1], [100.5, 150.25]));
        assert_eq!((machine.loopback, machine.network), ([7, 7], [100, 200]));
        assert_eq!((machine.sockets, machine.processors[1]), ([5, 4, 2, 3], 1));
        // Nothing is certain to be there.
        let none = Machine::parse(&Texts::default());
        assert_eq!((none.cpus, none.ticks, none.resident()), ([0, 0], Ticks::default(), 0));
    }

    #[test]
    fn the_kernel_answers() {
        let machine = Machine::read();
        assert!(machine.resident() > 1 << 10 && machine.ticks.total > machine.ticks.own, "{machine:?}");
        assert!(machine.kilobytes("MemTotal") > machine.resident() && machine.cpus[1] > 0, "{machine:?}");
    }
}

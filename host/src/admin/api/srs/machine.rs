//! The pages about the machine and the process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::super::route::Call;
use super::super::state::Api;
use super::envelope::{Code, Data};
use super::streams::now_ms;
use super::tally::Tally;
use crate::admin::machine::{Machine, Ticks, field};

/// Load of the host and of the machine. Shares are between 0 and 1, of one processor for the host.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Summary {
    ok: bool,
    now_ms: u64,
    #[serde(rename = "self")]
    own: Own,
    system: System,
}

/// The process.
#[derive(Serialize, JsonSchema)]
struct Own {
    version: &'static str,
    pid: u32,
    ppid: i64,
    /// Empty for those who may not see addresses.
    argv: String,
    cwd: String,
    mem_kbyte: u64,
    mem_percent: f64,
    cpu_percent: f64,
    /// Seconds since it was started.
    srs_uptime: u64,
}

/// The machine.
#[derive(Serialize, JsonSchema)]
struct System {
    cpu_percent: f64,
    #[serde(rename = "disk_read_KBps")]
    disk_read: u64,
    #[serde(rename = "disk_write_KBps")]
    disk_write: u64,
    /// 0.
    disk_busy_percent: f64,
    mem_ram_kbyte: u64,
    mem_ram_percent: f64,
    mem_swap_kbyte: u64,
    mem_swap_percent: f64,
    cpus: usize,
    cpus_online: usize,
    uptime: f64,
    ilde_time: f64,
    load_1m: f64,
    load_5m: f64,
    load_15m: f64,
    net_sample_time: u64,
    /// Bytes of all network devices but the loopback one.
    net_recv_bytes: u64,
    net_send_bytes: u64,
    /// Bytes of the loopback device.
    net_recvi_bytes: u64,
    net_sendi_bytes: u64,
    srs_sample_time: u64,
    /// Bytes of media of all sessions, past ones included.
    srs_recv_bytes: u64,
    srs_send_bytes: u64,
    /// Sockets of the machine, or of its network namespace.
    conn_sys: u64,
    conn_sys_et: u64,
    conn_sys_tw: u64,
    conn_sys_udp: u64,
    /// Publishers, players and viewers.
    conn_srs: usize,
}

/// Numbers of the kernel by SRS's names.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Numbers {
    ok: bool,
    /// Milliseconds since 1970.
    sample_time: u64,
    #[serde(flatten)]
    numbers: BTreeMap<&'static str, Value>,
}

pub(in crate::admin::api) fn summaries(api: &Api, call: &Call) -> Result<Data<Summary>, Code> {
    let (machine, tally) = (Machine::read(), Tally::of(api));
    let shares = Shares::of(api, &machine);
    let memory = Memory::of(&machine);
    let shown = |text: String| if call.admitted.caller.sees_addresses() { text } else { String::new() };
    let arguments: Vec<_> = std::env::args_os().map(|one| one.to_string_lossy().into_owned()).collect();
    let directory = std::env::current_dir().unwrap_or_default();
    let (now_ms, [sockets, established, waiting, udp]) = (now_ms(), machine.sockets);
    let own = Own {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        ppid: machine.own(field::PPID),
        argv: shown(arguments.join(" ")),
        cwd: shown(directory.to_string_lossy().into_owned()),
        mem_kbyte: machine.resident(),
        mem_percent: share(machine.resident(), machine.kilobytes("MemTotal")),
        cpu_percent: shares.own,
        srs_uptime: (machine.uptime[0] - machine.started).max(0.0) as u64,
    };
    let system = System {
        cpu_percent: shares.busy,
        disk_read: shares.disk[0],
        disk_write: shares.disk[1],
        disk_busy_percent: 0.0,
        mem_ram_kbyte: machine.kilobytes("MemTotal"),
        mem_ram_percent: memory.ram,
        mem_swap_kbyte: machine.kilobytes("SwapTotal"),
        mem_swap_percent: memory.swap,
        cpus: machine.cpus[0],
        cpus_online: machine.cpus[1],
        uptime: machine.uptime[0],
        ilde_time: machine.uptime[1],
        load_1m: machine.load[0],
        load_5m: machine.load[1],
        load_15m: machine.load[2],
        net_sample_time: now_ms,
        net_recv_bytes: machine.network[0],
        net_send_bytes: machine.network[1],
        net_recvi_bytes: machine.loopback[0],
        net_sendi_bytes: machine.loopback[1],
        srs_sample_time: now_ms,
        srs_recv_bytes: tally.host.amount.received,
        srs_send_bytes: tally.host.amount.sent,
        conn_sys: sockets + waiting,
        conn_sys_et: established,
        conn_sys_tw: waiting,
        conn_sys_udp: udp,
        conn_srs: tally.host.clients,
    };
    Ok(Data { data: Summary { ok: true, now_ms, own, system } })
}

pub(in crate::admin::api) fn rusages(_: &Api, _: &Call) -> Result<Data<Numbers>, Code> {
    let machine = Machine::read();
    let seconds = |index: usize| machine.own(index) / clock_ticks_per_second() as i64;
    let mut numbers: BTreeMap<&str, Value> = [
        ("ru_utime", seconds(field::UTIME).into()),
        ("ru_stime", seconds(field::STIME).into()),
        ("ru_maxrss", machine.status("VmHWM").into()),
        ("ru_minflt", machine.own(field::MINFLT).into()),
        ("ru_majflt", machine.own(field::MAJFLT).into()),
        ("ru_nvcsw", machine.status("voluntary_ctxt_switches").into()),
        ("ru_nivcsw", machine.status("nonvoluntary_ctxt_switches").into()),
    ]
    .into();
    let unknown = ["ru_ixrss", "ru_idrss", "ru_isrss", "ru_nswap", "ru_inblock", "ru_oublock"];
    for name in unknown.into_iter().chain(["ru_msgsnd", "ru_msgrcv", "ru_nsignals"]) {
        // Linux does not count them, or not for all threads.
        numbers.insert(name, 0.into());
    }
    Ok(Data { data: Numbers::of(numbers) })
}

pub(in crate::admin::api) fn self_proc_stats(api: &Api, _: &Call) -> Result<Data<Numbers>, Code> {
    let machine = Machine::read();
    let named = SELF_FIELDS.iter().enumerate().map(|(index, name)| (*name, machine.own(index).into()));
    let mut numbers: BTreeMap<&str, Value> = named.collect();
    numbers.insert("percent", Shares::of(api, &machine).own.into());
    numbers.insert("pid", std::process::id().into());
    numbers.insert("comm", machine.name.into());
    numbers.insert("state", machine.state.into());
    Ok(Data { data: Numbers::of(numbers) })
}

pub(in crate::admin::api) fn system_proc_stats(api: &Api, _: &Call) -> Result<Data<Numbers>, Code> {
    let machine = Machine::read();
    let names = ["user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal", "guest"];
    let number = |index: usize| machine.processors.get(index).copied().unwrap_or(0);
    let named = names.into_iter().enumerate().map(|(index, name)| (name, number(index).into()));
    let mut numbers: BTreeMap<&str, Value> = named.collect();
    numbers.insert("percent", Shares::of(api, &machine).busy.into());
    Ok(Data { data: Numbers::of(numbers) })
}

pub(in crate::admin::api) fn meminfos(_: &Api, _: &Call) -> Result<Data<Numbers>, Code> {
    let machine = Machine::read();
    let memory = Memory::of(&machine);
    let mut numbers: BTreeMap<&str, Value> = [
        ("percent_ram", memory.ram.into()),
        ("percent_swap", memory.swap.into()),
        ("MemActive", memory.active.into()),
        ("RealInUse", memory.used.into()),
        ("NotInUse", memory.free.into()),
    ]
    .into();
    for name in ["MemTotal", "MemFree", "Buffers", "Cached", "SwapTotal", "SwapFree"] {
        numbers.insert(name, machine.kilobytes(name).into());
    }
    Ok(Data { data: Numbers::of(numbers) })
}

impl Numbers {
    fn of(numbers: BTreeMap<&'static str, Value>) -> Numbers {
        Numbers { ok: true, sample_time: now_ms(), numbers }
    }
}

/// The names of the fields of `/proc/self/stat` from `ppid` on.
const SELF_FIELDS: [&str; 41] = [
    "ppid",
    "pgrp",
    "session",
    "tty_nr",
    "tpgid",
    "flags",
    "minflt",
    "cminflt",
    "majflt",
    "cmajflt",
    "utime",
    "stime",
    "cutime",
    "cstime",
    "priority",
    "nice",
    "num_threads",
    "itrealvalue",
    "starttime",
    "vsize",
    "rss",
    "rsslim",
    "startcode",
    "endcode",
    "startstack",
    "kstkesp",
    "kstkeip",
    "signal",
    "blocked",
    "sigignore",
    "sigcatch",
    "wchan",
    "nswap",
    "cnswap",
    "exit_signal",
    "processor",
    "rt_priority",
    "policy",
    "delayacct_blkio_ticks",
    "guest_time",
    "cguest_time",
];

/// Shares of processors, and rates of disks.
#[derive(Debug, PartialEq)]
struct Shares {
    /// Share of one processor that this process uses.
    own: f64,
    /// Share of all processors that is in use.
    busy: f64,
    /// Kilobytes read and written in a second.
    disk: [u64; 2],
}

impl Shares {
    /// Returns those since an earlier page, or since the machine and the process were started.
    fn of(api: &Api, machine: &Machine) -> Shares {
        let (ticks, period) = api.samples.since(Instant::now(), machine.ticks);
        let lifetime = Duration::from_secs_f64(machine.uptime[0].max(1.0));
        let own = period.unwrap_or(Duration::from_secs_f64((machine.uptime[0] - machine.started).max(1.0)));
        Shares::since(ticks, own, period.unwrap_or(lifetime), clock_ticks_per_second())
    }

    fn since(ticks: Ticks, own: Duration, all: Duration, ticks_per_second: u64) -> Shares {
        Shares {
            own: rounded(ticks.own as f64 / ticks_per_second as f64 / own.as_secs_f64()),
            busy: share(ticks.total.saturating_sub(ticks.idle), ticks.total),
            disk: ticks.disk.map(|kilobytes| (kilobytes as f64 / all.as_secs_f64()) as u64),
        }
    }
}

/// The use of memory, in kilobytes and as shares.
struct Memory {
    active: u64,
    used: u64,
    free: u64,
    ram: f64,
    swap: f64,
}

impl Memory {
    fn of(machine: &Machine) -> Memory {
        let total = machine.kilobytes("MemTotal");
        let active = total.saturating_sub(machine.kilobytes("MemFree"));
        let caches = machine.kilobytes("Buffers") + machine.kilobytes("Cached");
        let used = active.saturating_sub(caches);
        let swap = machine.kilobytes("SwapTotal");
        let swapped = swap.saturating_sub(machine.kilobytes("SwapFree"));
        Memory { active, used, free: total - used, ram: share(used, total), swap: share(swapped, swap) }
    }
}

/// Returns the share that a part has; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { rounded(part as f64 / whole as f64) }
}

/// Rounds to four decimals.
fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_over_a_period() {
        let ticks = Ticks { total: 400, idle: 300, own: 50, disk: [20, 4] };
        let seconds = Duration::from_secs;
        let shares = Shares::since(ticks, seconds(2), seconds(4), 100);
        assert_eq!(shares, Shares { own: 0.25, busy: 0.25, disk: [5, 1] });
        assert_eq!((share(1, 3), share(1, 0)), (0.3333, 0.0));
    }

    #[test]
    fn fields_have_their_names() {
        for (name, index) in [
            ("ppid", field::PPID),
            ("minflt", field::MINFLT),
            ("majflt", field::MAJFLT),
            ("utime", field::UTIME),
            ("stime", field::STIME),
            ("starttime", field::START),
            ("rss", field::RSS),
        ] {
            assert_eq!(SELF_FIELDS[index], name);
        }
    }
}

"""Rounds: one server, one load, a steady window, and what both used in it."""

import dataclasses
import json
import subprocess
import time

import readings
import servers
from servers import LOAD_CPUS, SCRATCH, SERVER_CPUS, TOOLS, Failed, Process

WRITES = ["write", "writev", "sendto", "sendmsg", "sendmmsg"]


# Seconds until the history of a stream is full, and the allocator has returned what the start needed (jemalloc: after 10 s).
SETTLES = 12


@dataclasses.dataclass(frozen=True)
class Load:
    """Viewers or players of one stream."""

    viewers: int
    protocol: str = "http"
    format: str = "flv"
    # Viewers that are read and checked: only FLV and RTMP can be.
    sample: int = 8
    # Viewers that read nothing after their first bytes.
    stalled: int = 0
    lifetime: int = 600

    def start(self, server, extra=(), name="load", viewers=None):
        """Starts it against the server; returns the process, whose viewers are still to come."""
        protocol = "http" if isinstance(server, servers.Floor) else self.protocol
        viewers = viewers or self.viewers
        checkable = not getattr(server, "replays", False) and (
            protocol == "rtmp" or (self.format == "flv" and protocol != "tls")
        )
        command = [TOOLS / "load", *server.target(protocol, self.format), "--protocol", protocol]
        command += ["--viewers", viewers, "--sample", self.sample if checkable else 0]
        command += ["--stalled", self.stalled, "--lifetime", self.lifetime]
        return Process(name, [*command, *extra], LOAD_CPUS)

    def attach(self, server, patience=60, **named):
        """Starts it and returns it once every viewer has had its first bytes and the bursts of the joins are over."""
        ramp = max(500, 2 * (named.get("viewers") or self.viewers))
        load = self.start(server, ["--ramp", ramp], **named)
        try:
            steady = json.loads(load.line(patience + ramp / 1000))
            if not steady["steady"]:
                raise Failed(f"no viewer was served; see {load.log}")
            time.sleep(2)
        except BaseException:
            load.stop()
            raise
        return load


class Watch:
    """The work of a server, its load, and everybody else since the watch was started."""

    def __init__(self, server, load=None, cpus=SERVER_CPUS):
        self.server, self.load, self.cpus = server, load, cpus
        self.first = self.read()

    def read(self):
        pid = self.server.process.pid
        source = getattr(self.server, "source", None)
        others = [process.pid for process in (self.load, source) if process]
        reading = {
            "instant": time.monotonic(),
            "cpu": readings.cpu_seconds(pid),
            "ticks": readings.user_share(pid),
            "load_cpu": readings.cpu_seconds(self.load.pid) if self.load else 0,
            "ours": readings.cpu_seconds(pid) + sum(map(readings.cpu_seconds, others)),
            "busy": readings.core_busy(set(LOAD_CPUS + self.cpus)),
            "writes": readings.counted_writes(pid),
            "switches": readings.switches(pid),
        }
        if self.load:
            reading["mark"] = self.load.ask("mark")
        return reading

    def stop(self):
        """The differences, as rates."""
        first, last = self.first, self.read()
        for process in (self.server.process, getattr(self.server, "source", None)):
            if process and process.child.poll() is not None:
                raise Failed(f"{process.name} has ended; its log is {process.log}")
        past = lambda key: last[key] - first[key]
        seconds = past("instant")
        user, system = (after - before for before, after in zip(first["ticks"], last["ticks"]))
        result = {
            "server": self.server.name,
            "seconds": seconds,
            "cpu_s": past("cpu"),
            "core_share": past("cpu") / seconds,
            "user_share": user / max(user + system, 0.01),
            "load_share": past("load_cpu") / seconds,
            "foreign_share": max(0, past("busy") - past("ours")) / seconds,
            "writes_per_s": past("writes") / seconds,
            "switches_per_s": past("switches") / seconds,
        }
        if self.load:
            result |= delivered(first["mark"], last["mark"])
            result["cpu_s_per_gb"] = past("cpu") / result["gigabytes"]
            result["user_s_per_gb"] = result["cpu_s_per_gb"] * result["user_share"]
        return result


def delivered(first, last):
    """What the load got between two marks."""
    past = lambda key: last[key] - first[key]
    seconds, gigabytes = past("instant") / 1e9, past("bytes") / 1e9
    if not gigabytes:
        raise Failed("nothing was delivered")
    return {
        "gigabytes": gigabytes,
        "bytes_per_s": gigabytes * 1e9 / seconds,
        "reads_per_s": past("reads") / seconds,
        "closed": last["closed"],
        "faults": last["faults"],
        "lost": last["lost"],
        "latency_p50_ms": last["latency_p50_us"] / 1000,
        "latency_p99_ms": last["latency_p99_us"] / 1000,
        "latency_max_ms": last["latency_max_us"] / 1000,
        "latencies": last["latencies"],
    }


def steady(server, load, seconds, joins=0, cpus=SERVER_CPUS):
    """One round: viewers come, a steady window, the writes, then joiners one after another."""
    process = load.attach(server)
    try:
        watch = Watch(server, process, cpus)
        time.sleep(seconds)
        result = watch.stop()
        if joins:
            if calls := traced_writes(server.process.pid, 2):
                result["writes_by_call"] = calls
                result["writes_per_s"] = sum(calls.values())
            # 23 ms apart: no multiple of a tick, so they fall into all of its phases.
            times = process.ask(f"joins {joins} 23", 30 + joins)
            if times["failed"] or not times["first_frame_us"]:
                raise Failed(f"{times['failed']} of {joins} joiners saw no picture")
            for name in ("first_byte", "first_frame"):
                values = sorted(value / 1000 for value in times[f"{name}_us"])
                result[f"{name}_p50_ms"] = quantile(values, 0.50)
                result[f"{name}_p99_ms"] = quantile(values, 0.99)
    finally:
        process.stop()
    return result


def memory(server, load, few, counts):
    """KiB of each viewer at each count, beyond what the server and `few` viewers need together: rings and batches are shared."""
    time.sleep(SETTLES)
    pid = server.process.pid
    first = load.attach(server, viewers=few, name="few")
    try:
        shared = readings.resident_kib(pid)
        found = {}
        for count in counts:
            process = load.attach(server, viewers=count, patience=120)
            try:
                found[count] = (readings.resident_kib(pid) - shared) / count
            finally:
                process.stop()
            time.sleep(1)
    finally:
        first.stop()
    return found


def traced_writes(pid, seconds):
    """Calls a second of all the ways to write, by perf's tracepoints; empty where perf may not."""
    report = SCRATCH / "writes.csv"
    events = ",".join(f"syscalls:sys_enter_{name}" for name in WRITES)
    command = ["perf", "stat", "-x;", "-o", report, "-e", events, "-p", pid, "--", "sleep", seconds]
    try:
        subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=seconds + 20)
    except (OSError, subprocess.SubprocessError):
        return {}
    calls = {}
    for line in report.read_text().splitlines():
        fields = line.split(";")
        if len(fields) > 2 and fields[0].isdigit():
            calls[fields[2].rpartition("_")[2]] = int(fields[0]) / seconds
    return calls


def capture(server, load, seconds=10):
    """Records what one viewer is sent, and returns the file."""
    file = SCRATCH / f"{load.protocol}-{load.format}.capture"
    process = load.start(server, ["--ramp", 1, "--capture", file], name="capture", viewers=1)
    try:
        process.line(20)
        time.sleep(2)  # The burst of the join is over.
        process.tell(f"capture {seconds}")
        process.line(seconds + 20)
    finally:
        process.stop()
    return file


def seal(file, viewers, seconds):
    """CPU seconds that rustls needs to encrypt a gigabyte of a captured stream, on the server's core."""
    key, cert = servers.certificate()
    command = [TOOLS / "seal", "--replay", file, "--cert", cert, "--key", key]
    process = Process("seal", [*command, "--viewers", viewers, "--seconds", seconds], SERVER_CPUS)
    try:
        return json.loads(process.line(seconds + 60))
    finally:
        process.stop()


def quantile(ordered, share):
    """The nearest-rank quantile of an ascending list."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

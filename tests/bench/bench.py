"""Processes and measurements shared by `run` and `profile`: pinned children, /proc readings, one round of load.

Server on one core, publisher and load on the other. Every child dies with the driver, and is only ever killed by the
handle that started it. Everything listens on the loopback.
"""

import ctypes
import http.server
import json
import os
import pathlib
import resource
import select
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SCRATCH = TARGET / "bench"
TOOLS = SCRATCH / "release"

CPUS = sorted(os.sched_getaffinity(0))
LOAD_CPU, SERVER_CPU = CPUS[0], CPUS[-1]
TICKS = os.sysconf("SC_CLK_TCK")
WRITES = ["write", "writev", "sendto", "sendmsg", "sendmmsg"]

CONFIG = """\
[rtmp]
listen = ["127.0.0.1:0"]

[http_server]
enabled = true
listen = "127.0.0.1:0"

[limits]
max_connections_per_address = 0
accept_rate = 0
receive_rate = 0

[vhost."__defaultVhost__".play]
merge_write = "{merge}ms"
min_latency = {min_latency}

[[vhost."__defaultVhost__".http_remux]]
enabled = true
mount = "[vhost]/[app]/[stream].flv"
"""


# Appended for viewers with signed URLs, about each of whom a hook is asked.
ACCESS = """\
[vhost."__defaultVhost__".signed_url]
enabled = true
publish = false

[[vhost."__defaultVhost__".signed_url.key]]
id = "bench"
secret = "no secret: this key signs nothing but a benchmark's URLs"

[vhost."__defaultVhost__".http_hooks]
enabled = true
on_play = "{hook}"
on_stop = "{hook}"
"""

# Appended for a host that writes an access log and is scraped.
OBSERVED = """\
[http_api]
enabled = true
listen = "127.0.0.1:0"

[metrics]
per_stream = true

[log.access]
file = "{log}"
"""

# Time between two scrapes: a third of Prometheus's default.
SCRAPE_S = 5

# Time that the hook takes for each answer: a tick, so that a mount whose first viewer waited for it has the same phase as one
# without. The cost of a viewer depends on how long after a picture the tick comes.
HOOK_MS = 40


class Failed(Exception):
    """A round that cannot be measured, with the reason."""


class Process:
    """A pinned child process with a line protocol on stdin and stdout."""

    def __init__(self, name, command, cpu):
        self.name = name
        self.log = SCRATCH / f"{name}.log"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        prctl = ctypes.CDLL(None).prctl

        def prepare():
            os.sched_setaffinity(0, {cpu})
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

        with open(self.log, "w") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=prepare,
                cwd=SCRATCH,
            )
        self.pid = self.child.pid
        self.pending = b""

    def line(self, patience):
        """Returns the next line of its stdout."""
        end = time.monotonic() + patience
        while b"\n" not in self.pending:
            stdout = self.child.stdout.fileno()
            ready, _, _ = select.select([stdout], [], [], max(0, end - time.monotonic()))
            piece = os.read(stdout, 65536) if ready else b""
            if not piece:
                tail = self.log.read_text(errors="replace")[-800:]
                what = "said nothing in time" if not ready else f"ended with {self.child.wait(5)}"
                raise Failed(f"{self.name} {what}; its log {self.log} ends:\n{tail}")
            self.pending += piece
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def ask(self, command, patience=10):
        """Sends a line and returns the JSON of the answer."""
        self.child.stdin.write(command.encode() + b"\n")
        self.child.stdin.flush()
        return json.loads(self.line(patience))

    def stop(self):
        """Ends it: SIGTERM, then SIGKILL."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


class Floor:
    """The floor server, which makes the stream itself."""

    name = "floor"

    def __init__(self, tick):
        self.process = Process("floor", [TOOLS / "floor", "--tick", tick], SERVER_CPU)
        self.http = addresses(self.process)["http"]

    def stop(self):
        self.process.stop()


class Hook(http.server.BaseHTTPRequestHandler):
    """A hook that allows everything, after `HOOK_MS`."""

    protocol_version = "HTTP/1.1"
    # Head and body in one write: the kernel would hold the second one back until the first is acknowledged.
    wbufsize = -1

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(HOOK_MS / 1000)
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"0")
        self.server.calls += 1

    def log_message(self, *_):
        pass


class Host:
    """The host with a source that publishes to it."""

    name = "host"
    path = None

    def __init__(self, binary, merge, min_latency=False, wrapper=(), access="", tables=""):
        config = SCRATCH / "remuxd.toml"
        config.write_text(CONFIG.format(merge=merge, min_latency=str(min_latency).lower()) + access + tables)
        self.source = None
        self.process = Process("host", [*wrapper, binary, "--config", config], SERVER_CPU)
        try:
            found = addresses(self.process, patience=120 if wrapper else 20)
            self.http, self.api = found["http"], found.get("http_api")
            self.source = Process("source", [TOOLS / "source", "--rtmp", found["rtmp"]], LOAD_CPU)
            self.source.line(20)
            if access:
                url = f"http://{self.http}/live/bench.flv"
                sign = [binary, "--config", config, "sign", "play", url, "--expires", "1h"]
                signed = subprocess.run(sign, check=True, capture_output=True, text=True).stdout.strip()
                self.path = urllib.parse.urlsplit(signed)._replace(scheme="", netloc="").geturl()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.source:
            self.source.stop()
        self.process.stop()


class Guarded(Host):
    """The host with viewers whose URLs are signed and about whom a hook is asked."""

    name = "access"

    def __init__(self, binary, merge):
        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.hook.daemon_threads = True
        self.hook.calls = 0
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        hook = f"http://127.0.0.1:{self.hook.server_address[1]}/"
        super().__init__(binary, merge, access=ACCESS.format(hook=hook))

    def stop(self):
        super().stop()
        self.hook.shutdown()


class Observed(Host):
    """The host with an access log, and metrics of each stream that are scraped."""

    name = "observed"

    def __init__(self, binary, merge):
        self.over, self.failure = threading.Event(), None
        super().__init__(binary, merge, tables=OBSERVED.format(log=SCRATCH / "access.log"))
        # The first scrapes load code and start caches, whatever the number of viewers.
        for _ in range(10):
            self.metrics()
        self.scraper = threading.Thread(target=self.scrape, daemon=True)
        self.scraper.start()

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.api}/metrics", timeout=SCRAPE_S) as page:
            return page.read()

    def scrape(self):
        while not self.over.wait(SCRAPE_S):
            try:
                if b"remuxd_stream_viewers{" not in self.metrics():
                    self.failure = "the page has no metrics of the stream"
            except OSError as error:
                self.failure = str(error)

    def stop(self):
        self.over.set()
        if self.source:
            self.scraper.join()
        super().stop()
        if self.failure:
            raise Failed(f"no metrics: {self.failure}")


def addresses(process, patience=20):
    """Reads `listening NAME ADDRESS` lines up to `ready`."""
    found = {}
    while (line := process.line(patience)) != "ready":
        match line.split():
            case ["listening", name, address, *_]:
                found[name] = address
    return found


def build(host=True):
    """Builds the tools, and the host with its modules."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--quiet"]
    tools = ["--manifest-path", HERE / "Cargo.toml", "--target-dir", SCRATCH]
    subprocess.run(cargo + tools, check=True)
    if host:
        subprocess.run(cargo, cwd=ROOT, check=True)
    return TARGET / "release" / "remuxd"


def cpu_seconds(pid):
    """User and system seconds that the process has used, with all threads that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def core_busy(cpu):
    """Seconds since boot in which the core was not idle, for any process."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name == f"cpu{cpu}":
            return (sum(map(int, times[:8])) - int(times[3]) - int(times[4])) / TICKS
    raise Failed(f"no cpu{cpu} in /proc/stat")


def resident_kib(pid):
    """Proportional set size."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Failed("no Pss in smaps_rollup")


def peak_kib(pid):
    """The highest resident set so far."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise Failed("no VmHWM in status")


def counted_writes(pid):
    """`write` and `writev` calls so far; the kernel does not count `send` here."""
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("syscw:"):
            return int(line.split()[1])
    raise Failed("no syscw in io")


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


class Watch:
    """The work of a server and its load since the watch was started."""

    def __init__(self, server, load):
        self.server, self.load = server, load
        self.first = self.read()

    def read(self):
        pid = self.server.process.pid
        mark = self.load.ask("mark")
        return {
            "mark": mark,
            "cpu": cpu_seconds(pid),
            "load_cpu": sum(cpu_seconds(self.load.pid)),
            "core": core_busy(SERVER_CPU),
            "writes": counted_writes(pid),
        }

    def stop(self):
        """The differences, as rates."""
        first, last = self.first, self.read()
        past = lambda key: last["mark"][key] - first["mark"][key]
        seconds = past("instant") / 1e9
        gigabytes = past("bytes") / 1e9
        if not gigabytes:
            raise Failed("nothing was delivered")
        user, system = (last["cpu"][i] - first["cpu"][i] for i in range(2))
        return {
            "seconds": seconds,
            "gigabytes": gigabytes,
            "bytes_per_s": gigabytes * 1e9 / seconds,
            "reads_per_s": past("reads") / seconds,
            "writes_per_s": (last["writes"] - first["writes"]) / seconds,
            "cpu_s_per_gb": (user + system) / gigabytes,
            "user_s_per_gb": user / gigabytes,
            "sys_s_per_gb": system / gigabytes,
            "core_share": (user + system) / seconds,
            "foreign_share": (last["core"] - first["core"] - user - system) / seconds,
            "load_share": (last["load_cpu"] - first["load_cpu"]) / seconds,
            "closed": last["mark"]["closed"],
            "faults": last["mark"]["faults"],
            "lost": last["mark"]["lost"],
            "latency_p50_ms": last["mark"]["latency_p50_us"] / 1000,
            "latency_p99_ms": last["mark"]["latency_p99_us"] / 1000,
            "latency_max_ms": last["mark"]["latency_max_us"] / 1000,
            "latencies": last["mark"]["latencies"],
        }


def attach(server, viewers, sample, lifetime=600, patience=60):
    """Starts a load and returns it once every viewer has had its first bytes and the joiners' bursts are over."""
    ramp = max(500, 2 * viewers)
    command = [TOOLS / "load", "--http", server.http, "--viewers", viewers, "--sample", sample]
    if path := getattr(server, "path", None):
        command += ["--path", path]
    load = Process("load", [*command, "--ramp", ramp, "--lifetime", lifetime], LOAD_CPU)
    try:
        load.line(patience + ramp / 1000)
        time.sleep(2)
    except BaseException:
        load.stop()
        raise
    return load


def measure(server, viewers, seconds, sample=8, joins=0):
    """One round: viewers come, a steady window, the writes, then joiners one after another."""
    pid = server.process.pid
    time.sleep(3)  # The history fills: a whole GOP.
    alone = resident_kib(pid)
    load = attach(server, viewers, sample)
    try:
        watch = Watch(server, load)
        time.sleep(seconds)
        result = watch.stop()
        result["kib_per_viewer"] = (resident_kib(pid) - alone) / viewers
        result["peak_kib_per_viewer"] = (peak_kib(pid) - alone) / viewers
        if joins:
            if calls := traced_writes(pid, 2):
                result["writes_by_call"] = calls
                result["writes_per_s"] = sum(calls.values())
            # 23 ms apart: no multiple of a tick, so they fall into all of its phases.
            times = load.ask(f"joins {joins} 23", 30 + joins)
            if times["failed"] or not times["first_frame_us"]:
                raise Failed(f"{times['failed']} of {joins} joiners saw no picture")
            for name in ("first_byte", "first_frame"):
                values = sorted(value / 1000 for value in times[f"{name}_us"])
                result[f"{name}_p50_ms"] = quantile(values, 0.50)
                result[f"{name}_p99_ms"] = quantile(values, 0.99)
    finally:
        load.stop()
    return {"server": server.name, **result}


def quantile(ordered, share):
    """The nearest-rank quantile of an ascending list."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

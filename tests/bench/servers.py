"""The servers of the bench: the floor, the host, and others that a command line starts; pinned, and ended with the driver.

Server on one core, publishers and load on the other. Every child dies with the driver, and is only ever killed by the
handle that started it.
"""

import ctypes
import dataclasses
import http.server
import json
import os
import pathlib
import resource
import select
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
SCRATCH = TARGET / "bench"
TOOLS = SCRATCH / "release"

CPUS = sorted(os.sched_getaffinity(0))
LOAD_CPUS, SERVER_CPUS = CPUS[:1], CPUS[-1:]

# What a mount of each format adds; `websocket-flv` answers on the mount of `flv`.
FORMATS = ("flv", "ts", "aac", "mp3")

CONFIG = """\
[rtmp]
listen = ["{ip}:0"]

[http_server]
enabled = true
listen = "{ip}:0"

[http_server.https]
enabled = true
listen = "{ip}:0"
key = "{key}"
cert = "{cert}"

[limits]
max_connections_per_address = 0
accept_rate = 0
receive_rate = 0

[vhost."__defaultVhost__".play]
merge_write = "{merge}ms"
min_latency = {min_latency}
{play}
"""

MOUNT = """
[[vhost."__defaultVhost__".http_remux]]
enabled = true
mount = "[vhost]/[app]/[stream].{format}"
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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where servers and publishers run: an address, and a command that enters a network namespace."""

    ip: str = "127.0.0.1"
    enter: tuple = ()


LOOPBACK = Place()


class Process:
    """A pinned child process with a line protocol on stdin and stdout."""

    def __init__(self, name, command, cpus):
        self.name = name
        self.log = SCRATCH / f"{name}.log"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        prctl = ctypes.CDLL(None).prctl

        def prepare():
            os.sched_setaffinity(0, set(cpus))
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
                start_new_session=True,
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

    def tell(self, command):
        self.child.stdin.write(command.encode() + b"\n")
        self.child.stdin.flush()

    def ask(self, command, patience=10):
        """Sends a line and returns the JSON of the answer."""
        self.tell(command)
        return json.loads(self.line(patience))

    def stop(self):
        """Ends it and what it has started: SIGTERM, then SIGKILL."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


class Floor:
    """The floor server: it makes the stream itself, or replays a captured one."""

    name = "floor"
    replays = False

    def __init__(self, place=LOOPBACK, tick=40, kbit=2000, replay=None):
        command = [*place.enter, TOOLS / "floor", "--listen", f"{place.ip}:0", "--tick", tick, "--kbit", kbit]
        self.replays = replay is not None
        self.process = Process("floor", command + (["--replay", replay] if replay else []), SERVER_CPUS)
        self.http = addresses(self.process)["http"]

    def target(self, protocol, stream_format):
        """The options of a load."""
        return ["--address", self.http]

    def stop(self):
        self.process.stop()


class Published:
    """A server with publishers."""

    place = LOOPBACK
    source = None

    def publish(self, kbit=2000, count=1, audio="aac"):
        command = [*self.place.enter, TOOLS / "source", "--rtmp", self.rtmp, "--kbit", kbit, "--count", count]
        self.source = Process("source", [*command, "--audio", audio], LOAD_CPUS)
        self.source.line(20 + count / 10)

    def stop(self):
        if self.source:
            self.source.stop()
        self.process.stop()


class Host(Published):
    """The host."""

    name = "host"
    path = None

    def __init__(
        self,
        binary,
        place=LOOPBACK,
        merge=40,
        min_latency=False,
        cpus=SERVER_CPUS,
        wrapper=(),
        play="",
        access="",
        tables="",
        publish={},
    ):
        self.place = place
        config = SCRATCH / "remuxd.toml"
        key, cert = certificate()
        text = CONFIG.format(
            ip=place.ip, key=key, cert=cert, merge=merge, min_latency=str(min_latency).lower(), play=play
        )
        config.write_text(text + "".join(MOUNT.format(format=name) for name in FORMATS) + access + tables)
        self.process = Process("host", [*place.enter, *wrapper, binary, "--config", config], cpus)
        try:
            found = addresses(self.process, patience=120 if wrapper else 20)
            self.http, self.https, self.rtmp = found["http"], found["https"], found["rtmp"]
            self.api = found.get("http_api")
            if publish is not None:
                self.publish(**publish)
            if access:
                url = f"http://{self.http}/live/bench.flv"
                sign = [binary, "--config", config, "sign", "play", url, "--expires", "1h"]
                signed = subprocess.run(sign, check=True, capture_output=True, text=True).stdout.strip()
                self.path = urllib.parse.urlsplit(signed)._replace(scheme="", netloc="").geturl()
        except BaseException:
            self.stop()
            raise

    def target(self, protocol, stream_format):
        match protocol:
            case "rtmp":
                return ["--address", self.rtmp, "--path", "live/bench"]
            case "tls":
                address = self.https
            case _:
                address = self.http
        return ["--address", address, "--path", self.path or f"/live/bench.{stream_format}"]


class Peer(Published):
    """Another server, started by a command line in which {rtmp} and {http} are ports, {ip} an address and {dir} a directory."""

    def __init__(self, name, command, paths, place=LOOPBACK, publish={}):
        self.name, self.place, self.paths = name, place, paths
        directory = SCRATCH / f"peer-{name}"
        directory.mkdir(exist_ok=True)
        ports = {"rtmp": free_port(), "http": free_port()}
        self.rtmp, self.http = (f"{place.ip}:{ports[key]}" for key in ("rtmp", "http"))
        words = [word.format(**ports, ip=place.ip, dir=directory) for word in shlex.split(command)]
        # Relative to where the bench was started; its children are in another directory.
        words[0] = os.path.abspath(words[0]) if "/" in words[0] else words[0]
        self.process = Process(name, [*place.enter, *words], SERVER_CPUS)
        try:
            until_open(self.process, place, ports["rtmp"])
            self.publish(**publish)
        except BaseException:
            self.stop()
            raise

    def target(self, protocol, stream_format):
        if protocol == "rtmp":
            return ["--address", self.rtmp, "--path", self.paths.get("rtmp", "live/bench")]
        key = "ws" if protocol == "ws" else stream_format
        return ["--address", self.http, "--path", self.paths.get(key, f"/live/bench.{stream_format}")]


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

    def log_message(self, *_):
        pass


class Guarded(Host):
    """The host with viewers whose URLs are signed and about whom a hook is asked."""

    name = "access"

    def __init__(self, binary, **named):
        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.hook.daemon_threads = True
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        hook = f"http://127.0.0.1:{self.hook.server_address[1]}/"
        super().__init__(binary, access=ACCESS.format(hook=hook), **named)

    def stop(self):
        super().stop()
        self.hook.shutdown()


class Observed(Host):
    """The host with an access log, and metrics of each stream that are scraped."""

    name = "observed"

    def __init__(self, binary, **named):
        self.over, self.failure = threading.Event(), None
        super().__init__(binary, tables=OBSERVED.format(log=SCRATCH / "access.log"), **named)
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_open(process, place, port):
    """Waits until the port accepts connections."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.child.poll() is None:
        try:
            socket.create_connection((place.ip, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failed(f"{process.name} does not listen on {place.ip}:{port}; its log is {process.log}")


def certificate():
    """A key and a self-signed certificate, made once."""
    key, cert = SCRATCH / "bench.key", SCRATCH / "bench.crt"
    if not cert.exists():
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=localhost"
        subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


def build(host=True):
    """Builds the tools, and the host with its modules."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--quiet"]
    tools = ["--manifest-path", HERE / "Cargo.toml", "--target-dir", SCRATCH]
    subprocess.run(cargo + tools, check=True)
    if host:
        subprocess.run(cargo, cwd=ROOT, check=True)
    return TARGET / "release" / "remuxd"

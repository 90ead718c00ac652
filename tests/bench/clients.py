"""Rows about viewers and publishers: memory, latency, joins, stalls, ingest."""

import json
import statistics
import time

import measure
import readings
from delivery import SLOW_KBIT
from figures import Figure, at_most, broken, median, ratios
from measure import Load, Watch

JOINS_PER_S = 2000


def memory(bench):
    """KiB a viewer that streams slowly, at N and at 4 N."""
    counts = bench.within_files([bench.viewers, 4 * bench.viewers])
    for name, load, limit, counts in (
        ("HTTP", Load(1), 4, counts),
        ("WebSocket", Load(1, protocol="ws"), 4, counts),
        ("RTMP", Load(1, protocol="rtmp"), 6, counts),
        ("HTTPS", Load(1, protocol="tls"), 16, counts[:1]),
    ):
        with bench.running(bench.host(merge=350, publish={"kbit": SLOW_KBIT})) as server:
            found = measure.memory(server, load, 10, counts)
        for count, kib in found.items():
            yield at_most(f"{name}, {count} viewers, KiB each", None, kib, kib, limit, " KiB")


def latency(bench):
    """Added latency with `min_latency`."""
    for viewers, limits in ((1, (0.25, 1.0)), (100, (1.25, 3.0))):
        load = Load(viewers, sample=min(viewers, 20))
        floors, hosts = [], []
        for _ in range(bench.rounds):
            floors.append(bench.round(bench.floor(tick=0), load))
            hosts.append(bench.round(bench.host(min_latency=True), load))
        for percent, limit in zip((50, 99), limits):
            key = f"latency_p{percent}_ms"
            values = [one[key] for one in hosts]
            yield at_most(
                f"{viewers} viewers, p{percent}, ms",
                median(floors, key),
                median(hosts, key),
                median(hosts, key),
                limit,
                " ms",
                spread=(min(values), max(values)),
            )
        yield broken(hosts)


def ingest(bench, count, kbit):
    """Publishers without a viewer: share of a core, KiB each, CPU-ms a megabyte."""
    shares, kib = [], []
    for _ in range(bench.rounds):
        with bench.running(bench.host(publish=None)) as server:
            time.sleep(1)
            alone = readings.resident_kib(server.process.pid)
            server.publish(kbit=kbit, count=count)
            time.sleep(4)
            watch = Watch(server)
            time.sleep(bench.seconds)
            result = bench.keep(watch.stop())
            shares.append(result["core_share"])
            kib.append((readings.resident_kib(server.process.pid) - alone) / count)
    return shares, kib


def idle_172(bench):
    counts = [50, 1000] if bench.full else [50]
    for count in counts:
        shares, kib = ingest(bench, count, SLOW_KBIT)
        percent = [share * 100 * 50 / count for share in shares]
        yield at_most(
            f"{count} publishers, % of a core for 50",
            None,
            statistics.median(percent),
            statistics.median(percent),
            4,
            " %",
            spread=(min(percent), max(percent)),
        )
        each = statistics.median(kib)
        yield at_most(f"{count} publishers, KiB each", None, each, each, 130, " KiB", spread=(min(kib), max(kib)))


def ingest_4000(bench):
    shares, kib = ingest(bench, 50, 4000)
    cost = [share * 1000 / (50 * 4000 / 8000) for share in shares]
    yield at_most(
        "50 publishers, CPU-ms/MB",
        None,
        statistics.median(cost),
        statistics.median(cost),
        1,
        " ms",
        spread=(min(cost), max(cost)),
    )
    yield Figure("50 publishers, KiB each", None, statistics.median(kib))


def joins(bench):
    """Latency of those who watch while others join."""
    load = Load(min(bench.viewers, 500), sample=20)
    more = {"floor": [], "host": []}
    for _ in range(bench.rounds):
        for name, start in (("floor", bench.floor()), ("host", bench.host())):
            with bench.running(start) as server:
                more[name].append(bench.keep(crowd(bench, server, load)))
    floor, host = more["floor"], more["host"]
    yield Figure("joins a second", median(floor, "joins_per_s"), median(host, "joins_per_s"))
    yield Figure("first bytes p99, ms", median(floor, "first_p99_ms"), median(host, "first_p99_ms"))
    yield Figure("latency p99 without, ms", median(floor, "quiet_p99_ms"), median(host, "quiet_p99_ms"))
    rises = [one["rise_ms"] for one in host]
    yield at_most(
        "latency p99 rises by, ms",
        median(floor, "rise_ms"),
        median(host, "rise_ms"),
        median(host, "rise_ms"),
        10,
        " ms",
        spread=(min(rises), max(rises)),
    )
    yield broken(host)


def crowd(bench, server, load):
    """A window without joins, then one with them."""
    process = load.attach(server)
    try:
        watch = Watch(server, process)
        time.sleep(bench.seconds)
        quiet = watch.stop()
        count = JOINS_PER_S * bench.seconds // 2
        extra = ["--ramp", 1000 * bench.seconds // 2, "--leave", 1]
        watch = Watch(server, process)
        comers = Load(count, sample=0).start(server, extra, name="comers")
        try:
            steady = json.loads(comers.line(60))
        finally:
            comers.stop()
        result = watch.stop()
    finally:
        process.stop()
    result["joins_per_s"] = steady["steady"] * 1000 / steady["after_ms"]
    result["first_p99_ms"] = steady["first_p99_us"] / 1000
    result["quiet_p99_ms"] = quiet["latency_p99_ms"]
    result["rise_ms"] = result["latency_p99_ms"] - quiet["latency_p99_ms"]
    return result


def stalled(bench):
    """Viewers that read nothing among others: what they change for those."""
    count = bench.viewers // 4
    alone, mixed = Load(bench.viewers - count, sample=20), Load(bench.viewers, sample=20, stalled=count)
    without, among, kib = [], [], []
    for _ in range(bench.rounds):
        without.append(bench.round(bench.host(), alone))
        with bench.running(bench.host()) as server:
            among.append(bench.keep(measure.steady(server, mixed, bench.seconds)))
            among[-1]["peak_kib"] = readings.field(f"/proc/{server.process.pid}/status", "VmHWM")
    without.append(bench.round(bench.host(), alone))
    found = ratios(without, among, "core_share")
    yield at_most(
        f"CPU share, {count} stalled",
        None,
        median(among, "core_share"),
        statistics.median(found),
        1.05,
        " x without",
        spread=(min(found), max(found)),
    )
    for percent in (50, 99):
        key = f"latency_p{percent}_ms"
        quiet, rise = median(without, key), median(among, key) - median(without, key)
        yield at_most(f"latency p{percent} rises by, ms", quiet, median(among, key), rise, 2, " ms")
    yield broken(without)


def stalled_memory(bench):
    """Memory of viewers that read nothing, beyond that of as many that read."""
    count = bench.viewers // 4
    for name, load in (("reading", Load(count)), ("stalled", Load(count, stalled=count))):
        with bench.running(bench.host()) as server:
            found = measure.memory(server, load, 10, [count])[count]
        yield at_most(f"{count} {name}, KiB each", None, found, found, 4, " KiB")

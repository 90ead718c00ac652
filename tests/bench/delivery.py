"""Rows about the CPU that a gigabyte costs."""

import statistics

import measure
from figures import Comparison, Figure, at_most, broken, median, ratios
from measure import Load
from servers import CPUS, LOOPBACK, Failed, Guarded, Observed

# Bits a second of the slow stream, with which the number of viewers alone loads the server.
SLOW_KBIT = 172
SCALE = (500, 2000, 4000)
SCALE_FULL = (500, 2000, 8000, 15000)


def cost(bench, load, merge, limit, joins=0, replay=True, audio="aac"):
    """CPU for a gigabyte, against a floor with the same bytes at the same pace."""
    publish = {"audio": audio}
    play = f'merge_write_audio = "{merge}ms"' if load.format in ("aac", "mp3") else ""
    host = bench.host(merge=merge, publish=publish, play=play)
    floor = bench.floor(tick=merge)
    if replay:
        file = bench.capture(host, load)
        floor = bench.floor(replay=file)
    servers = {"host": host, **bench.peers(publish)}
    comparison = Comparison(bench, floor, servers, load, joins)
    yield comparison.ratio("CPU s/GB", "cpu_s_per_gb", limit)
    yield comparison.plain("  user", "user_s_per_gb")
    if joins:
        yield from first_frames(comparison)
    yield from comparison.common(merge)


def first_frames(comparison):
    """Times from a joiner's connect; a quarter above what a quiet machine has shown."""
    for percent, limit in ((50, 0.33), (99, 1.6)):
        yield comparison.plain(f"first byte p{percent}, ms", f"first_byte_p{percent}_ms")
        figure = comparison.plain(f"first frame p{percent}, ms", f"first_frame_p{percent}_ms")
        yield at_most(figure.measure, figure.floor, figure.host, figure.host, limit, " ms", peers=figure.peers)
    if all("writes_by_call" in one for one in comparison.hosts):
        yield comparison.plain("writes a second", "writes_per_s")


def flv_40(bench):
    joins = 40 if bench.quick else 200 if bench.full else 100
    # The bars of the first picture are for the loopback.
    joins = joins if bench.place == LOOPBACK else 0
    return cost(bench, Load(bench.viewers), 40, 1.10, joins=joins, replay=False)


def flv_350(bench):
    return cost(bench, Load(bench.viewers), 350, 1.05, replay=False)


def ts_40(bench):
    return cost(bench, Load(bench.viewers, format="ts"), 40, 1.10)


def ws_40(bench):
    return cost(bench, Load(bench.viewers, protocol="ws"), 40, 1.10)


def aac_40(bench):
    return cost(bench, Load(bench.viewers, format="aac"), 40, 1.15)


def aac_350(bench):
    return cost(bench, Load(bench.viewers, format="aac"), 350, 1.15)


def mp3_40(bench):
    return cost(bench, Load(bench.viewers, format="mp3"), 40, 1.15, audio="mp3")


def rtmp_40(bench):
    return cost(bench, Load(bench.viewers, protocol="rtmp"), 40, 1.15)


def https_40(bench):
    """HTTPS against HTTP and what rustls alone needs for the same batches."""
    plain, tls = Load(bench.viewers), Load(bench.viewers, protocol="tls")
    host = bench.host()
    file = bench.capture(host, plain)
    https, http, seals = [], [], []
    for _ in range(bench.rounds):
        http.append(bench.round(host, plain))
        https.append(bench.round(host, tls))
        seals.append(measure.seal(file, bench.viewers, bench.seconds))
    http.append(bench.round(host, plain))
    more = [
        secure["cpu_s_per_gb"] - (before["cpu_s_per_gb"] + after["cpu_s_per_gb"]) / 2
        for secure, before, after in zip(https, http, http[1:])
    ]
    shares = [extra / alone["cpu_s_per_gb"] for extra, alone in zip(more, seals)]
    bench.note(f"cipher suite of rustls alone: {seals[0]['suite']}")
    yield Figure("HTTP, CPU s/GB", None, median(http, "cpu_s_per_gb"))
    yield Figure("HTTPS, CPU s/GB", None, median(https, "cpu_s_per_gb"))
    yield at_most(
        "TLS, CPU s/GB",
        median(seals, "cpu_s_per_gb"),
        statistics.median(more),
        statistics.median(shares),
        1.1,
        " x rustls",
        spread=(min(shares), max(shares)),
    )
    yield broken(http + https)


def cores(bench):
    """The host on one core and on two; the load stays where it is."""
    if len(CPUS) < 2:
        raise Failed("one core only")
    load = Load(bench.viewers)
    one, two = [], []
    for _ in range(bench.rounds):
        one.append(bench.round(bench.host(), load))
        two.append(bench.round(bench.host(cpus=CPUS[-2:]), load, cpus=CPUS[-2:]))
    one.append(bench.round(bench.host(), load))
    found = ratios(one, two, "cpu_s_per_gb")
    yield Figure("one core, CPU s/GB", None, median(one, "cpu_s_per_gb"))
    yield at_most(
        "two cores, CPU s/GB",
        None,
        median(two, "cpu_s_per_gb"),
        statistics.median(found),
        1.05,
        " x",
        spread=(min(found), max(found)),
    )
    yield Figure("one core, switches a second", None, median(one, "switches_per_s"))
    yield Figure("two cores, switches a second", None, median(two, "switches_per_s"))
    yield broken(one + two)


def scale(bench):
    """CPU for a gigabyte of a slow stream from few viewers to many."""
    first = None
    for viewers in bench.within_files(SCALE_FULL if bench.full else SCALE[:2] if bench.quick else SCALE):
        load = Load(viewers)
        floor, host = bench.floor(tick=350, kbit=SLOW_KBIT), bench.host(merge=350, publish={"kbit": SLOW_KBIT})
        comparison = Comparison(bench, floor, {"host": host}, load)
        figure = comparison.plain(f"{viewers} viewers, CPU s/GB", "cpu_s_per_gb")
        found = ratios(comparison.floors, comparison.hosts, "cpu_s_per_gb")
        ratio = statistics.median(found)
        first = first or ratio
        spread = (min(found) / first, max(found) / first)
        yield at_most(figure.measure, figure.floor, figure.host, ratio / first, 1.10, " x first", spread=spread)
        yield broken(comparison.hosts)


def merge(bench):
    """CPU and latency by the length of a merge: no bars."""
    load = Load(bench.viewers, sample=20)
    for length in (10, 40, 350) if bench.quick else (10, 20, 40, 100, 250, 350, 700):
        host = bench.host(merge=length)
        comparison = Comparison(bench, bench.floor(tick=length), {"host": host}, load)
        yield comparison.plain(f"{length} ms, CPU s/GB", "cpu_s_per_gb")
        yield comparison.plain(f"{length} ms, latency p50, ms", "latency_p50_ms")
        yield comparison.plain(f"{length} ms, latency p99, ms", "latency_p99_ms")
        yield broken(comparison.hosts)


def beside(bench, guarded, name, memory_limit):
    """The host with a further feature beside the host without."""
    load = Load(bench.viewers)
    plain, more = [], []
    for _ in range(bench.rounds):
        plain.append(bench.round(bench.host(), load))
        more.append(bench.round(guarded, load))
    plain.append(bench.round(bench.host(), load))
    found = ratios(plain, more, "cpu_s_per_gb")
    yield at_most(
        f"{name}: CPU s/GB",
        median(plain, "cpu_s_per_gb"),
        median(more, "cpu_s_per_gb"),
        statistics.median(found),
        1.02,
        " x",
        spread=(min(found), max(found)),
    )
    kib = []
    for start in (bench.host(), guarded):
        with bench.running(start) as server:
            kib.append(measure.memory(server, load, 10, [bench.viewers])[bench.viewers])
    yield at_most(f"{name}: KiB a viewer", *kib, kib[1] - kib[0], memory_limit, " KiB more")
    yield broken(more)


def access(bench):
    return beside(bench, lambda: Guarded(bench.binary, place=bench.place), "signed URLs and a hook", 2)


def observed(bench):
    return beside(bench, lambda: Observed(bench.binary, place=bench.place), "log and metrics", 0.5)

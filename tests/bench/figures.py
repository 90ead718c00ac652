"""Figures of a row, and rounds of several servers that are compared with each other."""

import dataclasses
import statistics

from servers import Failed


@dataclasses.dataclass
class Figure:
    """A measured value beside the floor's, and the value that a bar judges."""

    measure: str
    floor: float | None
    host: float | None
    judged: float | None = None
    bar: str = ""
    passed: bool | None = None
    # Lowest and highest judged value of the rounds.
    spread: tuple = ()
    # By name of a peer: its value, and its ratio to the floor where there is one.
    peers: dict = dataclasses.field(default_factory=dict)


def at_most(measure, floor, host, judged, limit, unit="", **named):
    return Figure(measure, floor, host, judged, f"<= {limit:g}{unit}", judged <= limit, **named)


def ratios(floors, rounds, key):
    """Each round over the mean of the floor rounds around it."""
    around = [(before[key] + after[key]) / 2 for before, after in zip(floors, floors[1:])]
    return [one[key] / floor for one, floor in zip(rounds, around)]


def median(rounds, key):
    return statistics.median(one[key] for one in rounds)


class Comparison:
    """Rounds of the floor, the host and peers in turn: floor, host, peers, floor, ..., floor."""

    def __init__(self, bench, start_floor, servers, load, joins=0):
        self.rounds = {"floor": [], **{name: [] for name in servers}}
        for _ in range(bench.rounds):
            for name, start in [("floor", start_floor), *servers.items()]:
                self.run(bench, name, start, load, joins)
        self.run(bench, "floor", start_floor, load, joins)

    def run(self, bench, name, start, load, joins):
        try:
            self.rounds[name].append(bench.round(start, load, joins))
        except Failed as failure:
            if name in ("floor", "host"):
                raise
            bench.note(f"{name} does not serve this: {str(failure).splitlines()[0]}")

    @property
    def floors(self):
        return self.rounds["floor"]

    @property
    def hosts(self):
        return self.rounds["host"]

    def peers(self, key):
        found = {}
        for name, rounds in self.rounds.items():
            if name not in ("floor", "host") and len(rounds) == len(self.hosts):
                found[name] = (median(rounds, key), statistics.median(ratios(self.floors, rounds, key)))
        return found

    def plain(self, measure, key):
        return Figure(measure, median(self.floors, key), median(self.hosts, key), peers=self.peers(key))

    def ratio(self, measure, key, limit):
        found = ratios(self.floors, self.hosts, key)
        spread = (min(found), max(found))
        figure = self.plain(measure, key)
        judged = statistics.median(found)
        return at_most(measure, figure.floor, figure.host, judged, limit, " x", spread=spread, peers=figure.peers)

    def common(self, merge):
        """What every row shows: pace, amount, and whether anything was lost. A window may begin and end just before a tick."""
        amount = statistics.median(ratios(self.floors, self.hosts, "bytes_per_s"))
        allowed = max(0.02, 1.5 * merge / 1000 / min(one["seconds"] for one in self.hosts))
        figure = self.plain("bytes a second", "bytes_per_s")
        bar = f"1 x +- {allowed:.0%}"
        yield dataclasses.replace(figure, judged=amount, bar=bar, passed=abs(amount - 1) <= allowed)
        yield self.plain("reads a second", "reads_per_s")
        yield broken(self.hosts)


def broken(rounds):
    count = sum(one["closed"] + one["faults"] + one["lost"] for one in rounds)
    return at_most("faults, losses, closed", 0, count, count, 0)

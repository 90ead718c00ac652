"""One run of the bench: its options, the servers that it starts, and all rounds so far."""

import contextlib
import resource

import measure
import servers
from servers import LOOPBACK, SERVER_CPUS, Floor, Host, Peer

# Descriptors that a server needs beside those of its viewers.
SPARE_FILES = 200


class Bench:
    """What rows need: sizes, ways to start servers, and a record of everything that was measured."""

    def __init__(self, chosen, binary, place=LOOPBACK):
        self.viewers, self.rounds, self.seconds = chosen.viewers, chosen.rounds, chosen.seconds
        self.full, self.quick, self.null = chosen.full, chosen.quick, chosen.null
        self.chosen_peers = chosen.peers
        self.binary, self.place = binary, place
        self.kept, self.notes = [], []

    def floor(self, **named):
        return lambda: Floor(self.place, **named)

    def host(self, **named):
        if self.null and named.get("publish", {}) is not None:
            return self.floor(tick=0 if named.get("min_latency") else named.get("merge", 40))
        return lambda: Host(self.binary, self.place, **named)

    def peers(self, publish):
        """The starts of other servers, by name."""
        return {
            name: (lambda name=name, command=command, paths=paths: Peer(name, command, paths, self.place, publish))
            for name, (command, paths) in self.chosen_peers.items()
        }

    @contextlib.contextmanager
    def running(self, start):
        server = start()
        try:
            yield server
        finally:
            server.stop()

    def round(self, start, load, joins=0, cpus=SERVER_CPUS):
        """One round of a fresh server."""
        with self.running(start) as server:
            if joins and not isinstance(server, Floor):
                measure.time.sleep(3)  # The history fills: a whole GOP.
            return self.keep(measure.steady(server, load, self.seconds, joins, cpus))

    def keep(self, result):
        """Records and prints a round."""
        self.kept.append(result)
        cost = f"{result['cpu_s_per_gb']:.3f} s/GB  {result['bytes_per_s'] / 1e6:6.1f} MB/s" if "gigabytes" in result else ""
        print(
            f"  {result['server']:8} {cost}  core {result['core_share']:.1%}, load {result['load_share']:.0%},"
            f" others {result['foreign_share']:.0%}",
            flush=True,
        )
        return result

    def capture(self, start, load):
        """Records what the host sends to one viewer, for whole GOPs of 2 s."""
        with self.running(start) as server:
            return measure.capture(server, load, max(4, min(10, self.seconds // 2 * 2)))

    def note(self, text):
        """Prints a line, and keeps it for the end."""
        print(f"  note: {text}", flush=True)
        self.notes.append(text)

    def within_files(self, counts):
        """The counts that the limit of open files allows; the largest one is lowered to it."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES
        if max(counts) > most:
            self.note(f"at most {most} viewers: the hard limit of open files")
        return sorted({min(count, most) for count in counts})

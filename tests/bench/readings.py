"""Readings of /proc: CPU time, memory, calls and switches of a process tree, and what else the cores did."""

import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Context switches of all threads, calls that write.
STATUS = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")


class Unreadable(Exception):
    """A field that the kernel does not show."""


def tree(pid):
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                pass
    return found


def cpu_seconds(pid):
    """CPU seconds of the process and its living descendants, with all threads that have ended."""

    def of_process(pid):
        try:
            # The kernel's clock of another process: CPUCLOCK_SCHED of its pid.
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            return 0

    return sum(map(of_process, tree(pid)))


def user_share(pid):
    """User and system seconds so far, by ticks."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def core_busy(cpus):
    """Seconds since boot in which these cores were not idle, for any process."""
    busy = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name in [f"cpu{cpu}" for cpu in cpus]:
            busy += sum(map(int, times[:8])) - int(times[3]) - int(times[4])
    return busy / TICKS


def field(path, name):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise Unreadable(f"no {name} in {path}")


def resident_kib(pid):
    """Proportional set size of the process and its descendants."""
    return sum(field(f"/proc/{process}/smaps_rollup", "Pss") for process in tree(pid))


def counted_writes(pid):
    """`write` and `writev` calls so far; the kernel does not count `send` here."""
    return sum(field(f"/proc/{process}/io", "syscw") for process in tree(pid))


def switches(pid):
    """Voluntary context switches of all threads so far: a thread that waited and was woken."""
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            total += field(status, STATUS[0])
        except OSError:
            pass
    return total

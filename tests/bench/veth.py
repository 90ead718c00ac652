"""Network namespaces: the server in one of its own, behind a pair of virtual interfaces or a delay line in user space.

The loopback has neither segments nor round trips, so it judges no pacing, no segmentation and no congestion control. Where the kernel
has netem, a pair of interfaces gets a delay of 20 ms, with fq and without. Where it has not, packets pass two TUN devices and the
program `delay` instead, whose capacity is that of a core: few viewers.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
import time

from servers import LOAD_CPUS, SCRATCH, TOOLS, Failed, Place

DELAY_MS = 20
# Viewers whose packets the delay line can pass on.
MOST_DELAYED = 100
HERE, THERE = "10.79.0.1", "10.79.0.2"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
# Packets that a TUN device holds until `delay` reads them.
QUEUE = 20000


def call(*command, check=True):
    return subprocess.run([str(word) for word in command], check=check, capture_output=True, text=True)


def settings(note):
    """(title, congestion control, queueing discipline, delay) of each link that this machine can make."""
    known = call("sysctl", "-n", "net.ipv4.tcp_available_congestion_control").stdout.split()
    controls = [name for name in ("cubic", "bbr") if name in known]
    for name in {"cubic", "bbr"} - set(controls):
        note(f"no congestion control {name} in this kernel")
    disciplines = {name: has_discipline(name) for name in ("netem", "fq")}
    for name, found in disciplines.items():
        if not found:
            note(f"no queueing discipline {name} in this kernel")
    queues = ["", "fq"] if disciplines["fq"] else [""]
    for control in controls:
        for queue in queues:
            yield f"veth, {control}{queue and ', fq'}", control, queue, 0
            if disciplines["netem"] or not queue:
                means = "netem" if disciplines["netem"] else "a delay line in user space"
                yield f"{DELAY_MS} ms by {means}, {control}{queue and ', fq'}", control, queue, DELAY_MS


def has_discipline(name):
    with namespace() as space:
        return call("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", "lo", "root", name, check=False).returncode == 0


@contextlib.contextmanager
def namespace():
    name = f"remuxd-bench-{os.getpid()}"
    call("ip", "netns", "add", name)
    try:
        call("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        call("ip", "netns", "del", name, check=False)


@contextlib.contextmanager
def place(control, queue, delay):
    """A namespace behind such a link, with the address of a server in it."""
    with namespace() as space, contextlib.ExitStack() as stack:
        inside = ("ip", "netns", "exec", space)
        if delay and not has_netem(space):
            stack.enter_context(delay_line(space, delay))
        else:
            pair(space, queue, delay)
        # By route: a namespace may not choose what the machine does not allow to all.
        link = ("10.79.0.0/30", "dev", "bench1", "proto", "kernel", "scope", "link", "src", THERE)
        call("ip", "-n", space, "route", "replace", *link, "congctl", control)
        yield Place(THERE, inside)


def has_netem(space):
    found = call("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", "lo", "root", "netem", check=False)
    call("ip", "netns", "exec", space, "tc", "qdisc", "del", "dev", "lo", "root", check=False)
    return found.returncode == 0


def pair(space, queue, delay):
    """Two interfaces. A delay is on both, so that fq, whose place is the server's interface, can be there as well."""
    call("ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1", "netns", space)
    call("ip", "addr", "add", f"{HERE}/30", "dev", "bench0")
    call("ip", "link", "set", "bench0", "up")
    call("ip", "-n", space, "addr", "add", f"{THERE}/30", "dev", "bench1")
    call("ip", "-n", space, "link", "set", "bench1", "up")
    if delay:
        # The whole round trip on the way back: the server's own interface keeps its discipline.
        call("tc", "qdisc", "add", "dev", "bench0", "root", "netem", "delay", f"{delay}ms", "limit", 1000000)
    if queue:
        call("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", "bench1", "root", queue)


@contextlib.contextmanager
def delay_line(space, delay):
    """Two TUN devices, and a process that passes packets on after half the round trip."""
    here = tun("bench0")
    configure([], "bench0", HERE)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(os.open(f"/run/netns/{space}", os.O_RDONLY))
    try:
        there = tun("bench1")
    finally:
        enter(own)
    configure(["-n", space], "bench1", THERE)
    command = ["taskset", "-c", str(LOAD_CPUS[0]), TOOLS / "delay", "--microseconds", str(delay * 500)]
    with open(SCRATCH / "delay.log", "w") as log:
        process = subprocess.Popen(command, stdin=here, stdout=there, stderr=log)
    for file in (here, there):
        os.close(file)
    try:
        time.sleep(0.2)
        if process.poll() is not None:
            raise Failed(f"no delay line; its log is {SCRATCH / 'delay.log'}")
        yield
    finally:
        process.kill()
        process.wait()


def tun(name):
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def configure(where, name, address):
    call("ip", *where, "addr", "add", f"{address}/30", "dev", name)
    call("ip", *where, "link", "set", name, "up", "txqueuelen", QUEUE)


def enter(file):
    if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET) != 0:
        raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")
    os.close(file)

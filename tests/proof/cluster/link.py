#!/usr/bin/env python3
"""A link with delay and loss between this network namespace and another one: `link.py NAMESPACE DELAY_MS LOSS_PERCENT`.

Both ends are TUN devices, `slow0` here (10.78.0.1) and `slow1` there (10.78.0.2), which is also that namespace's default route. Each
packet is delayed, in both directions, and some are lost. Prints `ready`, and runs until it is ended.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000


def tun(name):
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def main():
    namespace, delay, loss = sys.argv[1], float(sys.argv[2]) / 1000, float(sys.argv[3]) / 100
    here = tun("slow0")
    ip("addr", "add", "10.78.0.1/30", "dev", "slow0")
    ip("link", "set", "slow0", "up")
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(other, CLONE_NEWNET) != 0:
        sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
    there = tun("slow1")
    ip("addr", "add", "10.78.0.2/30", "dev", "slow1")
    ip("link", "set", "slow1", "up")
    ip("route", "add", "default", "via", "10.78.0.1")
    print("ready", flush=True)
    opposite = {here: there, there: here}
    waiting, number = [], 0
    while True:
        timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([here, there], [], [], timeout)
        now = time.monotonic()
        for file in readable:
            packet = os.read(file, 65536)
            if random.random() >= loss:
                number += 1
                heapq.heappush(waiting, (now + delay, number, opposite[file], packet))
        while waiting and waiting[0][0] <= now:
            _, _, file, packet = heapq.heappop(waiting)
            try:
                os.write(file, packet)
            except BlockingIOError:
                pass


main()

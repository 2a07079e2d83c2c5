"""A network namespace behind a link that delays packets and loses some: what netem does, without netem in the kernel."""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

TUN_DEVICE = "/dev/net/tun"
# Of linux/if_tun.h: TUNSETIFF, and a device of IP packets without a header of its own.
SET_NAME, PACKETS_ALONE = 0x400454CA, 0x1001
LONGEST = 65536


class LossyLink:
    """Two TUN devices, one in a new network namespace; each packet arrives `delay_s` later, or with chance `loss` never.

    `inside` is what a command begins with to run in the namespace, where `address` is its own.
    """

    HERE, address = "198.18.71.1", "198.18.71.2"  # RFC 2544: for tests of networks

    def __init__(self, delay_s, loss, seed=1):
        self.delay_s, self.loss, self.random = delay_s, loss, random.Random(seed)
        self.name = f"elastic-{os.getpid()}"
        self.inside = ["ip", "netns", "exec", self.name]
        self.passed = self.lost = 0

    @staticmethod
    def why_not():
        """What is missing for such a link, or None."""
        if os.geteuid() != 0:
            return "only root makes network namespaces"
        name = f"elastic-{os.getpid()}-tried"
        try:
            os.close(os.open(TUN_DEVICE, os.O_RDWR))
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)
            subprocess.run(["ip", "netns", "delete", name], check=True, capture_output=True, text=True)
        except OSError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            return error.stderr.strip()
        return None

    def __enter__(self):
        ip = lambda *words: subprocess.run(["ip", *words], check=True)
        ip("netns", "add", self.name)
        self.ends = []
        for device, address, where in [("elastic0", self.HERE, []), ("elastic1", self.address, ["-n", self.name])]:
            end = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(end, SET_NAME, struct.pack("16sH22x", device.encode(), PACKETS_ALONE))
            self.ends.append(end)
            if where:
                ip("link", "set", device, "netns", self.name)
            ip(*where, "address", "add", f"{address}/30", "dev", device)
            ip(*where, "link", "set", device, "up")
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        os.close(self.stopped)
        self.thread.join()
        for end in [*self.ends, self.stop]:
            os.close(end)
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def carry(self):
        under_way = []  # (when it arrives, its number, at which end, the packet)
        while True:
            wait = max(0, under_way[0][0] - time.monotonic()) if under_way else None
            ready, _, _ = select.select([*self.ends, self.stop], [], [], wait)
            if self.stop in ready:
                return
            for end in ready:
                packet = os.read(end, LONGEST)
                if self.random.random() < self.loss:
                    self.lost += 1
                    continue
                self.passed += 1
                other = self.ends[1 - self.ends.index(end)]
                heapq.heappush(under_way, (time.monotonic() + self.delay_s, self.passed, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                os.write(end, packet)

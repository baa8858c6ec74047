"""A cable between two network namespaces that delays every Ethernet frame and loses some, for kernels without `netem`.

Each end is a TAP device whose other side this process holds. The kernel sends whole frames through it, so TCP meets the
same delay and loss as on a long line.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

DELAY = 0.1  # s each way, so 0.2 there and back
LOSS = 0.01  # of all frames
_SET_NAME, _TAP, _NO_INFO = 0x400454CA, 0x0002, 0x1000  # TUNSETIFF, IFF_TAP, IFF_NO_PI of <linux/if_tun.h>
_FRAME = 65536  # bytes, more than any has


class PoorCable:
    """Between the namespaces of two names, as a device `cable` in each."""

    def __init__(self, names: list[str], *, seed: int = 0) -> None:
        self.sent = self.lost = 0
        self._draw = random.Random(seed)
        self._ends = [_device(f"{name}t", name) for name in names]
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for end in (*self._ends, self._stopped, self._stop):
            os.close(end)

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []  # when, number, to which end, the frame
        while True:
            soon = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready = select.select([*self._ends, self._stopped], [], [], soon)[0]
            if self._stopped in ready:
                return
            for number, end in enumerate(self._ends):
                if end in ready:
                    frame = os.read(end, _FRAME)
                    self.sent += 1
                    if self._draw.random() < LOSS:
                        self.lost += 1
                    else:
                        due = time.monotonic() + DELAY
                        heapq.heappush(waiting, (due, self.sent, self._ends[1 - number], frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(waiting)
                try:
                    os.write(end, frame)
                except OSError:  # that device is down
                    self.lost += 1


def _device(name: str, namespace: str) -> int:
    """A file of the frames of a new TAP device, which is called `cable` in a namespace."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _SET_NAME, struct.pack("16sH", name.encode(), _TAP | _NO_INFO))
    subprocess.run(["ip", "link", "set", name, "netns", namespace, "name", "cable"], check=True, capture_output=True)
    return end

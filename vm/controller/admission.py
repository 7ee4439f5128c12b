# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Limit how many VMs run at once on each host."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from vm.base.memory import available as memory_available

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_MEBIBYTES_OF_QEMU = 276
"""Memory of QEMU itself, beside that of its VM: most of it is code that it has translated."""


def capacity(*, memory: int, cores: int | None = None, available_mebibytes: int | None = None) -> int:
    """Return how many VMs of `memory` MiB run on this machine at once: one for each core, fewer if memory is short.

    At least one.
    """
    cores = cores or len(os.sched_getaffinity(0))
    available = available_mebibytes if available_mebibytes is not None else memory_available()
    return max(1, min(cores, available // (memory + _MEBIBYTES_OF_QEMU)))


class Admission:
    """The kernels that run and those that wait for a VM, on each host; they start in the order in which they asked."""

    def __init__(self, limit: int | None = None) -> None:
        """Admit `limit` VMs at once on each host, or as many as each host says that it can hold."""
        self._limit = limit
        self._waiting: dict[str, deque[tuple[Hashable, Callable[[], None]]]] = {}
        self._running: dict[Hashable, str] = {}
        self._capacity: dict[str, int] = {}
        self._lock = threading.Lock()

    def request(self, kernel: Hashable, *, host: str, capacity: int, start: Callable[[], None]) -> None:
        """Call `start`, now or when another kernel on `host` has been released."""
        with self._lock:
            self._capacity[host] = self._limit or capacity
            self._waiting.setdefault(host, deque()).append((kernel, start))
        self._admit(host)

    def release(self, kernel: Hashable) -> None:
        """Take `kernel` off the running ones, or off the waiting ones."""
        with self._lock:
            host = self._running.pop(kernel, None)
            for waiting in self._waiting.values():
                for entry in [entry for entry in waiting if entry[0] == kernel]:
                    waiting.remove(entry)
        if host is not None:
            self._admit(host)

    def _admit(self, host: str) -> None:
        while True:
            with self._lock:
                running = sum(1 for at in self._running.values() if at == host)
                if running >= self._capacity[host] or not self._waiting[host]:
                    return
                kernel, start = self._waiting[host].popleft()
                self._running[kernel] = host
            start()

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
    """The VMs that run and those that wait, on each host; they start in the order in which they asked."""

    def __init__(self, limit: int | None = None) -> None:
        """Admit `limit` VMs at once on each host, or as many as each host says that it can hold."""
        self._limit = limit
        self._waiting: dict[str, deque[tuple[Hashable, Callable[[], None]]]] = {}
        self._running: dict[Hashable, str] = {}
        self._capacity: dict[str, int] = {}
        self._lock = threading.Lock()

    def request(self, vm: Hashable, *, host: str, capacity: int, start: Callable[[], None]) -> None:
        """Call `start`, now or when another VM on `host` has been released."""
        with self._lock:
            self._capacity[host] = self._limit or capacity
            self._waiting.setdefault(host, deque()).append((vm, start))
        self._admit(host)

    def release(self, vm: Hashable) -> None:
        """Take `vm` off the running ones, or off the waiting ones."""
        with self._lock:
            host = self._running.pop(vm, None)
            for waiting in self._waiting.values():
                for entry in [entry for entry in waiting if entry[0] == vm]:
                    waiting.remove(entry)
        if host is not None:
            self._admit(host)

    def capacity(self, host: str) -> int:
        """Return how many VMs may run on `host` at once, as far as that is known."""
        with self._lock:
            return self._capacity.get(host, self._limit or 1)

    def room(self, host: str) -> int:
        """Return how many more VMs may start on `host`, those that wait for it counted as running."""
        with self._lock:
            running = sum(1 for at in self._running.values() if at == host)
            return self._capacity.get(host, 1) - running - len(self._waiting.get(host, ()))

    def _admit(self, host: str) -> None:
        while True:
            with self._lock:
                running = sum(1 for at in self._running.values() if at == host)
                if running >= self._capacity[host] or not self._waiting[host]:
                    return
                vm, start = self._waiting[host].popleft()
                self._running[vm] = host
            start()

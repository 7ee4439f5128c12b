# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Decide how many VMs run at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from vm.base.memory import available as memory_available

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_MEBIBYTES_OF_QEMU = 276
"""What a VM takes beside its memory: QEMU, with what it has translated."""


def capacity(*, memory: int, cores: int | None = None, available_mebibytes: int | None = None) -> int:
    """Return how many VMs of `memory` MiB this machine takes at once: one a core, if there is room, at least one."""
    cores = cores or len(os.sched_getaffinity(0))
    available = available_mebibytes if available_mebibytes is not None else memory_available()
    return max(1, min(cores, available // (memory + _MEBIBYTES_OF_QEMU)))


class Slots:
    """Admit so many at once on each host; who comes first goes first."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._waiting: dict[str, deque[tuple[Hashable, Callable[[], None]]]] = {}
        self._running: dict[Hashable, str] = {}
        self._capacity: dict[str, int] = {}
        self._lock = threading.Lock()

    def want(self, who: Hashable, *, host: str, capacity: int, go: Callable[[], None]) -> None:
        """Call `go`, now or when another has released its slot on `host`."""
        with self._lock:
            self._capacity[host] = self._limit or capacity
            self._waiting.setdefault(host, deque()).append((who, go))
        self._admit(host)

    def release(self, who: Hashable) -> None:
        """Give up the slot of `who`, or its place among the waiting."""
        with self._lock:
            host = self._running.pop(who, None)
            for waiting in self._waiting.values():
                for entry in [entry for entry in waiting if entry[0] == who]:
                    waiting.remove(entry)
        if host is not None:
            self._admit(host)

    def _admit(self, host: str) -> None:
        while True:
            with self._lock:
                running = sum(1 for at in self._running.values() if at == host)
                if running >= self._capacity[host] or not self._waiting[host]:
                    return
                who, go = self._waiting[host].popleft()
                self._running[who] = host
            go()

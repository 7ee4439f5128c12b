# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Measure how long a VM has been silent, without the time in which the host did not let it run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm.boot.machine import Machine


class Clock:
    """A clock that stops while a VM waits for a CPU of the host."""

    def __init__(self, vm: Machine | None = None) -> None:
        self._vm = vm

    def now(self) -> float:
        """Return seconds; only differences have a meaning."""
        return time.monotonic() - (self._vm.starved if self._vm is not None else 0)


class Patience:
    """A limit to the seconds without news from a VM."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._clock = Clock()
        self._paused = False
        self.renew()

    def watch(self, vm: Machine) -> None:
        """Begin to count, for `vm`."""
        self._clock = Clock(vm)
        self.renew()

    def renew(self) -> None:
        """Begin to count again: there was news."""
        self._since = self._clock.now()

    def pause(self) -> None:
        """Stop counting."""
        self._paused = True

    def resume(self) -> None:
        """Go on counting, from 0."""
        self._paused = False
        self.renew()

    @property
    def is_over(self) -> bool:
        """Return whether there has been no news for too long."""
        return not self._paused and self._clock.now() - self._since > self._seconds

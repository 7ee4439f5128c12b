# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Count the seconds in which a VM could have done something: a busy host is no hung kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm.boot.machine import Machine


class Clock:
    """A clock that stands still while the host lets a VM wait for a CPU."""

    def __init__(self, vm: Machine | None = None) -> None:
        self._vm = vm

    def now(self) -> float:
        """Return the seconds since some moment."""
        return time.monotonic() - (self._vm.starved if self._vm is not None else 0)


class Patience:
    """Count the seconds without news in which a VM could have had some."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._clock = Clock()
        self._paused = False
        self.renew()

    def watch(self, vm: Machine) -> None:
        """Begin to count for `vm`."""
        self._clock = Clock(vm)
        self.renew()

    def renew(self) -> None:
        """Take note of news."""
        self._since = self._clock.now()

    def pause(self) -> None:
        """Expect no news for now."""
        self._paused = True

    def resume(self) -> None:
        """Expect news again."""
        self._paused = False
        self.renew()

    @property
    def is_over(self) -> bool:
        """Tell whether there has been no news for too long."""
        return not self._paused and self._clock.now() - self._since > self._seconds

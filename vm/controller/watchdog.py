# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""End a VM that is silent for too long, or that the run no longer needs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vm.controller.link import LOOK_EVERY

if TYPE_CHECKING:
    from vm.boot.machine import Machine
    from vm.boot.patience import Patience


class Watchdog:
    """A thread that watches one VM until `ended` is set, and sets it when it ends the VM."""

    hung = False
    """Whether it ended the VM because it was silent."""

    def __init__(self, vm: Machine, patience: Patience, *, stop: threading.Event, ended: threading.Event) -> None:
        self._vm, self._patience = vm, patience
        self._stop, self._ended = stop, ended
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            if self._stop.is_set() or self._patience.is_over:
                self.hung = not self._stop.is_set()
                self._vm.kill()
                self._ended.set()

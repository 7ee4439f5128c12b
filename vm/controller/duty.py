# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tell a guest that waits for the controller from one that is silent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from vm.controller.xdist_protocol import Name

if TYPE_CHECKING:
    from vm.boot.patience import Patience


class Duty:
    """The cases that a guest's worker was sent and has not ended; safe to use from any thread.

    A worker begins a case when it knows the next one, or that there is none (xdist.remote.WorkerInteractor). With one
    case left it waits for the controller, and there is no news to wait for.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._collected = self._knows_the_last = False
        self._cases = 0

    def take(self, message: Any) -> None:
        """Take note of a message to the worker."""
        name, content = message
        with self._lock:
            if name == Name.RUN:
                self._cases += len(content["indices"])
            self._knows_the_last |= name == Name.SHUTDOWN
            self._update()

    def hear(self, name: str) -> None:
        """Take note of a message from the worker."""
        with self._lock:
            self._patience.renew()
            self._collected |= name == Name.COLLECTED
            self._cases -= name == Name.ENDED
            self._update()

    def _update(self) -> None:
        if self._collected and self._cases <= 1 and not self._knows_the_last:
            self._patience.pause()
        else:
            self._patience.resume()

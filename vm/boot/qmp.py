# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Learn from QEMU, by its monitor protocol (QMP), why a VM stopped or ended.

After an internal error of KVM the QEMU process stays, and the VM no longer runs. And an exit status does not tell a
guest that reset itself from one that powered off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from qemu.qmp import QMPClient, QMPError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_EVENTS = ("STOP", "SHUTDOWN", "RESET", "GUEST_PANICKED")

_FINE = {"running", "prelaunch", "paused", "suspended", "shutdown"}
"""Run states (RunState, qapi/run-state.json) from which a VM goes on, or which an event explains."""

_RESET = "the guest reset itself, as a triple fault makes it do"
_SHUTDOWNS = {
    "guest-reset": _RESET,
    "guest-shutdown": "the guest powered itself off",
    "guest-panic": "the guest panicked",
    "host-error": "QEMU ended for an error of the host's",
    "host-signal": "QEMU ended because of a signal",
}
"""Reasons of the event SHUTDOWN (ShutdownCause, qapi/run-state.json). With -no-reboot a reset is a shutdown too."""


class Monitor:
    """What QEMU has reported about its VM."""

    trouble = ""
    """Why the VM no longer runs; "" if QEMU has not reported it."""
    paused = False
    """Whether QEMU stopped the VM and stays."""

    def __init__(self, port: socket.socket, *, end: Callable[[], object]) -> None:
        """Begin to listen on `port`, a connected socket, in a thread; `end` ends a QEMU that will not go on."""
        self._port = port
        self._end = end
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def finish(self, *, seconds: float) -> None:
        """Wait, at most so long, until all reports of a QEMU that has ended are read."""
        self._thread.join(seconds)

    def _listen(self) -> None:
        # The library warns when a connection ends, and every VM ends that way.
        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)
        with self._port, contextlib.suppress(QMPError, OSError, EOFError):  # it ended before it answered
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        client = QMPClient("reuseport-harness")
        with client.listener(_EVENTS) as events:
            await client.connect(self._port)
            ended = asyncio.create_task(client.runstate_changed())
            try:
                await self._look(client)  # what happened before it listened to us was not told
                while not self.trouble:
                    event = asyncio.create_task(events.get())
                    await asyncio.wait({event, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not event.done():
                        event.cancel()
                        break
                    await self._take(client, event.result())
            finally:
                ended.cancel()
                with contextlib.suppress(QMPError, OSError, EOFError):
                    await client.disconnect()

    async def _take(self, client: QMPClient, event: Any) -> None:
        match event["event"]:
            case "STOP":
                await self._look(client)
            case "SHUTDOWN":
                reason = event.get("data", {}).get("reason", "")
                self.trouble = _SHUTDOWNS.get(reason, f"QEMU ended: {reason or 'it does not say why'}")
            case "RESET":
                self.trouble = _RESET
            case "GUEST_PANICKED":
                self.trouble = _SHUTDOWNS["guest-panic"]

    async def _look(self, client: QMPClient) -> None:
        """Ask QEMU for the VM's state, and end a VM that will never go on."""
        answer: Any = await client.execute("query-status")
        state = answer["status"]
        if state not in _FINE and not self.trouble:
            self.trouble, self.paused = f"QEMU paused the VM: {state}", True
            self._end()

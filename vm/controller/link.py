# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A relay's two channels to the controller: xdist's, for the worker in the guest, and the relay's own."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from vm.controller.protocol import Instruction
from vm.controller.xdist_protocol import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vm.controller.protocol import Status

LOOK_EVERY = 0.25
"""Seconds after which threads that wait look whether the run was ended."""

_END_OF_MESSAGES = object()


class Link:
    """Both channels, and what came through them; its methods are safe to call from any thread."""

    def __init__(self, channel: Any, status: Any) -> None:
        self.stop = threading.Event()
        """Set when the run was ended, or the controller is gone, or has no use for this VM."""
        self.retired = False
        """Whether the controller has no use for this VM, and the run goes on."""
        self.admitted = threading.Event()
        """Set when the controller allows to boot."""
        self._channel = channel
        self._status = status
        self._early: list[Any] | None = []  # messages for a guest that was not up yet
        self._guest: Any = None
        self._before_message: Callable[[Any], None] = lambda message: None
        self._lock = threading.Lock()
        self._busy = False

    def listen(self) -> None:
        """Begin to take in what the controller says; to be called in the main thread."""
        # Ctrl-C reaches every process of the terminal, and execnet interrupts a worker that does not end.
        signal.signal(signal.SIGINT, lambda *_: self._be_interrupted())
        self._status.setcallback(self._take_instruction, endmarker=None)
        self._channel.setcallback(self._take_message, endmarker=_END_OF_MESSAGES)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Have the end of the run raise KeyboardInterrupt meanwhile: for code that waits for other programs."""
        self._busy = True
        try:
            if self.stop.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._busy = False

    def send_status(self, status: Status) -> None:
        """Tell the controller what the relay does."""
        self._status.send(status.to_message())

    def send_console(self, part: bytes) -> None:
        """Send a part of the console."""
        self._status.send(("console", part))

    def send(self, name: str, content: Any) -> None:
        """Send a message of xdist's protocol, as a worker does."""
        self._channel.send((str(name), content))

    def connect(
        self,
        guest: Any,
        *,
        before_message: Callable[[Any], None],
        on_message: Callable[[Any], None],
        on_end: Callable[[], None],
    ) -> None:
        """Pass messages on to `guest`, the channel to xdist's worker there, the early ones first.

        `before_message` is called with each before it is sent; `on_message` with what the guest says; `on_end` when it
        has ended.
        """
        with self._lock:
            self._guest, self._before_message = guest, before_message
            for message in self._early or ():
                self._pass_on(message)
            self._early = None

        def take(message: Any) -> None:
            if message is _END_OF_MESSAGES:
                on_end()
            else:
                on_message(message)

        guest.setcallback(take, endmarker=_END_OF_MESSAGES)

    def is_shut_down(self) -> bool:
        """Return whether xdist has told a worker that is not up to end."""
        with self._lock:
            return any(message[0] == Name.SHUTDOWN for message in self._early or ())

    def _be_interrupted(self) -> None:
        self.stop.set()
        if self._busy:
            raise KeyboardInterrupt

    def _take_instruction(self, message: Any) -> None:
        if message == Instruction.GO:
            self.admitted.set()
        else:  # Instruction.STOP or RETIRE, or None: the controller is gone
            self.retired = message == Instruction.RETIRE
            self.stop.set()
            if self._busy and (main := threading.main_thread().ident) is not None:
                signal.pthread_kill(main, signal.SIGINT)

    def _take_message(self, message: Any) -> None:
        with self._lock:
            if message is _END_OF_MESSAGES:
                self.stop.set()
            elif self._guest is not None:
                self._pass_on(message)
            elif self._early is not None:
                self._early.append(message)

    def _pass_on(self, message: Any) -> None:
        self._before_message(message)
        with contextlib.suppress(OSError):  # the guest is ending, which `on_end` reports
            self._guest.send(message)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Something that goes on beside a history: in a process and on a CPU of its own, until it is told to end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import traceback
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWER_SECONDS = 300.0
"""How long the other process may take to end what it is at: one history, on a slow guest."""


class BesideError(Exception):
    """The other process failed by itself, which says nothing about the kernel."""


class Beside:
    """A child of this process that calls `act` with a function which tells whether it is to end.

    What `act` returns, as JSON, is what `end` returns.
    """

    def __init__(self, act: Callable[[Callable[[], bool]], Any], *, cpu: int) -> None:
        self._ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            # Python 3.12 warns of locks that other threads may hold. The child takes none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child = os.fork()
        if not self._child:
            self._ours.close()
            _live(act, theirs, cpu)
        theirs.close()

    def end(self) -> Any:
        """Tell the child to end; return what it says. BesideError if it says nothing."""
        said = b""
        try:
            self._ours.settimeout(_ANSWER_SECONDS)
            self._ours.sendall(b"!")
            while part := self._ours.recv(65536):
                said += part
        except OSError as error:
            raise BesideError(f"the other process does not answer: {error}") from error
        finally:
            self._ours.close()
            os.waitpid(self._child, 0)
        try:
            answer = json.loads(said)
        except ValueError:
            raise BesideError("the other process ended without a word") from None
        if "failed" in answer:
            raise BesideError(f"the other process failed:\n{answer['failed']}")
        return answer["said"]


def _live(act: Callable[[Callable[[], bool]], Any], control: socket.socket, cpu: int) -> None:
    """Act and say what came of it, in the child, which ends here: nothing of the parent's is undone."""
    try:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both: the parent ends the child
            os.sched_setaffinity(0, {cpu})
            answer = {"said": act(lambda: bool(select.select([control], [], [], 0)[0]))}
        except BaseException:  # it has to reach the parent, whatever it is
            answer = {"failed": traceback.format_exc()}
        control.recv(1)
        control.sendall(json.dumps(answer).encode())
    finally:
        os._exit(0)

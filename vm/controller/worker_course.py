# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How far pytest got in a guest, and why it ended before its cases if it did."""

from __future__ import annotations

from typing import Any

from vm.controller.xdist_protocol import ENDED_BY_CASES, Name
from vm.guest.exit_reason import EXIT_REASON


class WorkerCourse:
    """What xdist's worker in a guest said of itself.

    xdist takes an internal error of one worker, or a pytest.exit() there, for the end of the whole run. Here it is the
    end of a VM: xdist is not sent such messages, and takes the worker for one that died.
    """

    def __init__(self) -> None:
        self.began = False
        """Whether it has begun a case."""
        self.finished = False
        """Whether it ended as its cases have it."""
        self._error = self._exit = ""

    def hear(self, name: str, content: dict[str, Any]) -> bool:
        """Take note of a message; return whether xdist is to have it."""
        self.began |= name == Name.BEGAN
        if name == Name.INTERNAL_ERROR:
            self._error = str(content["formatted_error"])
            return False
        if name == Name.FINISHED:
            output = content["workeroutput"]
            self.finished = output["exitstatus"] in ENDED_BY_CASES
            self._exit = output.get(EXIT_REASON) or f"exit status {output['exitstatus']}"
            return self.finished
        return True

    def failure(self, raised: str) -> tuple[str, str] | None:
        """Return why pytest ended before its cases, in a line and in full; None if it did not.

        `raised` is what its process ended with: a traceback, or "".
        """
        if self.finished or not (self._error or self._exit or raised):
            return None
        if self._error:
            return f"pytest had an internal error in the guest: {_last_line(self._error)}", self._error.strip()
        if raised:
            return f"pytest ended in the guest: {_last_line(raised)}", raised.strip()
        return f"pytest ended in the guest: {_last_line(self._exit)}", ""


def _last_line(text: str) -> str:
    """Return the last line of a traceback: the kind of the exception, and what it says."""
    return text.strip().splitlines()[-1]

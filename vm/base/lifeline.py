# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have a program that was started from here end when this process does, whatever ends it."""

from __future__ import annotations

import shutil
from typing import Literal


def lifeline(signal: Literal["TERM", "KILL"]) -> list[str]:
    """Return the words that go before a command: the kernel sends it `signal` when the process that started it ends.

    An exception handler that ends the command cannot do as much: a second Ctrl-C may come while it runs, or one while
    the command is being started. See prctl(2), PR_SET_PDEATHSIG, and setpriv(1); [] where setpriv is not installed.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal] if setpriv else []

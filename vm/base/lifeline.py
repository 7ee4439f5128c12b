# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make child processes end when this process ends, for whatever reason."""

from __future__ import annotations

import shutil
from typing import Literal


def lifeline(signal: Literal["TERM", "KILL"]) -> list[str]:
    """Return the words to put before a command, so that the kernel sends it `signal` when its parent ends.

    An exception handler is not enough: a second Ctrl-C may come while it runs, or one while the command is being
    started. See prctl(2), PR_SET_PDEATHSIG, and setpriv(1); [] where setpriv is not installed.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal] if setpriv else []

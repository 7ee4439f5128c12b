# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run rounds of cases on the running kernel, and print a sample after each: what `tests.soak` starts in its VM.

A line is "sample " and JSON; what pytest says of a round that did not pass is printed before it, and every other line
is pytest's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from .sample import take

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "sample "

_SETTLE_SECONDS = 2.0
"""Sockets and BPF objects are freed a grace period of RCU after their last use, and by workers."""

_LINES = 60
"""Of what pytest says of a round that did not pass."""


def command(chosen: Sequence[str]) -> list[str]:
    """Return the command that runs a round of the cases that pytest's arguments choose.

    Without `--where-possible`, for which the results are written: a VM's files are in its memory, which would grow.
    """
    return [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "-q", *chosen]


def main(arguments: list[str]) -> int:
    """Run rounds with the arguments after the first, which is the number of seconds; return 1 if one did not pass."""
    seconds, *chosen = arguments
    began = time.monotonic()
    failed = False
    while time.monotonic() - began < float(seconds):
        # Not a pipe: a process that a case leaves behind would keep it open, and this would wait for that.
        with tempfile.TemporaryFile("w+") as output:
            ended = subprocess.run(command(chosen), stdout=output, stderr=subprocess.STDOUT, check=False)
            output.seek(0)
            lines = output.read().splitlines()
        if ended.returncode:
            print("\n".join(lines[-_LINES:]))
            failed = True
        time.sleep(_SETTLE_SECONDS)
        sample = take(seconds=time.monotonic() - began)
        said = {**sample.to_json(), "said": lines[-1].strip("= ") if lines else "", "status": ended.returncode}
        print(MARK + json.dumps(said), flush=True)
        if ended.returncode > 1:  # it cannot run: no later round could
            return ended.returncode
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

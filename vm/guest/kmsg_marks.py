# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mark the begin and end of each case in the guest's kernel log, so that a splat names its case."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.interface.keys import KERNEL_LOG
from vm.report.console import BEGIN, END, LONGEST_MARK

if TYPE_CHECKING:
    from io import FileIO

_NOTICE = "<5>"


class KmsgMarks:
    """A plugin for the worker in a VM."""

    def __init__(self, kmsg: Path) -> None:
        self._kmsg = kmsg

    @cached_property
    def _log(self) -> FileIO:
        # It stays open: to open a device takes longer than to write to it.
        return self._kmsg.open("wb", buffering=0)

    def pytest_unconfigure(self) -> None:
        """Close the kernel log."""
        with contextlib.suppress(OSError):
            self._log.close()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write that a case begins."""
        self._write(f"{BEGIN}{nodeid[:LONGEST_MARK]}")

    def pytest_runtest_logfinish(self) -> None:
        """Write that the case has ended."""
        self._write(END)

    def _write(self, mark: str) -> None:
        # If the kernel log takes nothing, that is found when the console is scanned.
        with contextlib.suppress(OSError):
            self._log.write(f"{_NOTICE}{mark}\n".encode())


def marks_here() -> KmsgMarks | None:
    """Return the plugin if this process is in a VM."""
    return KmsgMarks(Path(name)) if (name := os.environ.get(KERNEL_LOG)) else None

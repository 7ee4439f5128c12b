# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs of cases in VMs, looked at while they go on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vm.report import journal

from ..measurement import MeasuringError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOOK_EVERY = 0.05

_ROOT = Path(__file__).resolve().parents[3]
_OWN = ["-c", "pyproject.toml", "--rootdir", ".", "-p", "harness.plugin", "-p", "vm.plugin", "--vm"]
_LINE_OF_A_CASE = '"case": '


class VmRun:
    """`tox -e vm` on some kernels; the end of the context ends it, and its VMs with it."""

    def __init__(self, kernels: Sequence[str], *arguments: str) -> None:
        named = [word for kernel in kernels for word in ("--kernel", kernel)]
        self._earlier = set(_journals())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *_OWN, *named, *arguments],
            cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._output: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._wait()

    @property
    def is_on(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def wait_for_first_case(self) -> None:
        """Return when the first case has ended. Raises MeasuringError if the run ends before."""
        while self.is_on:
            for path in set(_journals()) - self._earlier:
                with contextlib.suppress(OSError):
                    if _LINE_OF_A_CASE in path.read_text():
                        return
            time.sleep(LOOK_EVERY)
        self.end()

    def end(self) -> list[dict[str, Any]]:
        """Wait for the end; return what results.json has of each kernel. Raises MeasuringError if it did not pass."""
        output = self._wait()
        found = re.search(r"^results: (.+)$", output, re.MULTILINE)
        if self._process.returncode or found is None:
            raise MeasuringError(f"the cases in VMs ended with status {self._process.returncode}:\n{output}")
        kernels: list[dict[str, Any]] = json.loads((Path(found[1]) / "results.json").read_text())["kernels"]
        return kernels

    def _wait(self) -> str:
        """Wait for the end; return what it printed."""
        if self._output is None:
            self._output, _ = self._process.communicate()
        return self._output

    def memory_of_vms(self) -> float:
        """Return the MiB that its largest QEMU has had at most until now, 0 while there is none."""
        found = [0]
        for process in _below(self._process.pid):
            with contextlib.suppress(OSError):
                status = (process / "status").read_text()
                if status.startswith("Name:\tqemu"):
                    found += map(int, re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE))
        return max(found) / 1024


def _journals() -> Iterator[Path]:
    return _ROOT.glob(f"results/*/{journal.FILE}")


def _below(parent: int) -> Iterator[Path]:
    """Yield the directories in /proc of a process's children, and of theirs."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield Path("/proc") / child
                yield from _below(int(child))

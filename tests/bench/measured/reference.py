# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The reference scenario here against the kernel's own test of it, everything included: from start to exit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..building import PEER, WHY_NOT
from ..measurement import MeasuringError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..measurement import Desk, Round, Take

HERE, KERNEL = "here", "the kernel's own"
CASES = "cases/test_reference.py"

_ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def against_the_kernels_own(desk: Desk) -> Iterator[Take]:
    """Yield what runs both once, and returns deliveries a second."""
    if (why_not := desk.built / WHY_NOT).exists():
        raise MeasuringError(why_not.read_text())

    def take() -> Round:
        return {KERNEL: _kernels_own(desk.built), HERE: _here()}

    yield take


def _kernels_own(built: Path) -> float:
    seconds, output = _timed([str(built / PEER)], cwd=built)
    found = re.search(r"^deliveries (\d+) failed (\d+)$", output, re.MULTILINE)
    assert found is not None, output
    # Checks of its own that fail are its business, as long as it does not stop at them: it waits 5 ms for a delivery.
    return int(found[1]) / seconds


def _here() -> float:
    """Run the cases; each delivery leaves a word in the results."""
    seconds, output = run_cases()
    found = re.search(r"^results: (.+)$", output, re.MULTILINE)
    assert found is not None, output
    (kernel,) = json.loads((Path(found[1]) / "results.json").read_text())["kernels"]
    return sum(len(case["observed"]) for case in kernel["cases"]) / seconds


def run_cases(*options: str) -> tuple[float, str]:
    """Run the reference cases by the command of `tox -e host`; return the seconds and what it printed."""
    plugins = ["-p", "harness.plugin", "-p", "vm.plugin", "-p", "no:hypothesispytest"]
    project = ["-c", "pyproject.toml", "--rootdir", "."]
    return _timed(
        [sys.executable, "-m", "pytest", *project, *plugins, "--where-possible", "-q", *options, CASES], cwd=_ROOT
    )


def _timed(command: Sequence[str], *, cwd: Path) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 1):
        raise MeasuringError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout

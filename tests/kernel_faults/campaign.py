# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have a campaign alone find faults, and replay what it found with the fault and on a kernel without."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.campaign.files import read

from .planting import PARAMETER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .table import Fault

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_FAULT = "6.12"
"""The kernel of the archive on which what was found must not differ."""

_CASES = "cases/test_histories.py"
_KEPT = re.compile(r": kept in (\S+\.json)$", re.MULTILINE)
_PASSED, _FAILED, _SPLAT = 0, 1, 11

Ran = tuple[int, str]
"""The exit status of a run, and what it printed."""


@dataclass(frozen=True, kw_only=True)
class Rediscovery:
    """What a campaign came to under one fault."""

    fault: str
    file: str = ""
    """The file of what was found, from the checkout on; empty: nothing was found."""
    found: str = ""
    """How long it took, and what differs."""
    length: int = 0
    """Steps or packets that it has at last."""
    complaint: str = ""
    """Why that is no proof, or nothing was found; empty if all is as it should be."""

    def __str__(self) -> str:
        """Return it in a line for a person."""
        said = f"{self.fault}: {self.found}; {self.length} steps or packets, {self.file}" if self.file else self.fault
        return f"{said}: {self.complaint}" if self.complaint else f"{said}: replayed"


def run_cases(*options: str) -> Ran:
    """Run the campaign's cases in a VM, as `tox -e vm` does, and show what they print."""
    command = [
        sys.executable, "-m", "pytest", "-c", f"{ROOT}/pyproject.toml", "--rootdir", str(ROOT),
        "-p", "harness.plugin", "-p", "vm.plugin", "--vm", "--witness", "none", f"{ROOT}/{_CASES}", *options,
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            sys.stderr.write(line)
            said.append(line)
    return process.returncode, "".join(said)


def rediscover(
    kernel: Path,
    fault: Fault,
    *,
    seconds: float,
    root: Path = ROOT,
    run: Callable[..., Ran] = run_cases,
) -> Rediscovery:
    """Run campaigns of so many seconds under a fault until one finds a difference, and replay that."""
    faulty = ("--kernel", str(kernel), "--append", f"{PARAMETER}={fault.number}")
    status, said = run(*faulty, "--campaign", f"{seconds:g}", "--maxfail", "1")
    kept = _KEPT.findall(said)
    file = root / kept[-1] if kept else _console(root)
    if file is None:
        complaint = "nothing was found" if status == _PASSED else f"nothing was kept, and the run ended with {status}"
        return Rediscovery(fault=fault.name, complaint=complaint)
    saved = read(file).to_json()
    return Rediscovery(
        fault=fault.name,
        file=str(file.relative_to(root)),
        found=f"{saved['searched']}: {saved['sentence']}" if kept else "the kernel died",
        length=sum(len(saved.get(part, ())) for part in ("steps", "packets", "first", "second")),
        complaint=_complaint(run, ("--replay", str(file)), faulty),
    )


def _console(root: Path) -> Path | None:
    """Return the console's log of the last run, if its kernel died: `--replay` finds the last history in it."""
    for console in sorted((root / "results/latest").resolve().glob("*/console*.log")):
        if "Kernel panic" in console.read_text(errors="replace"):
            return console
    return None


def _complaint(run: Callable[..., Ran], replay: Sequence[str], faulty: Sequence[str]) -> str:
    """Say what is wrong with the replays of what was found, or nothing."""
    status, _ = run("--kernel", WITHOUT_FAULT, *replay)
    if status != _PASSED:
        return f"it fails on {WITHOUT_FAULT}, too" if status == _FAILED else f"{WITHOUT_FAULT} ended with {status}"
    status, _ = run(*faulty, *replay)
    return "" if status in (_FAILED, _SPLAT) else f"it does not fail again: the run ended with {status}"

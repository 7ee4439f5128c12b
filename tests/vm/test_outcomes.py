# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In a real VM: what becomes of a run whose kernel panics or complains, and of the cases beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Name the cases to run (`-k`), the exit status, and the outcome of each case."""

    cases: str
    status: int
    outcomes: dict[str, str]
    says: str


TROUBLES = {
    "panic": Trouble(
        cases="before or panic or after",
        status=1,
        outcomes={"test_before": "passed", "test_panic": "failed", "test_after": "passed"},
        says="sysrq: Trigger a crash",
    ),
    "splat": Trouble(
        cases="before or splat or after",
        status=11,
        outcomes={"test_before": "passed", "test_splat": "splat", "test_after": "passed"},
        says="WARNING: CPU: 0 PID: 1 at net/core/sock_reuseport.c:1 planted",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_told_for_what_it_is(name: str) -> None:
    trouble = TROUBLES[name]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "harness.plugin", "-p", "vm.plugin"),
            *("--vm", "--witness", "none", "tests/vm/trouble.py", "-k", trouble.cases),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == trouble.status, said
    assert trouble.says in said
    (kernel,) = json.loads((ROOT / "results/latest/results.json").read_text())["kernels"]
    assert {case["id"].rpartition("::")[2]: case["outcome"] for case in kernel["cases"]} == trouble.outcomes

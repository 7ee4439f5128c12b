# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ledger's table says of each bug whether a kernel has it, and what its cases came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.__main__ import main
from harness.commands.ledger import cases_of_bugs
from vm.report import results
from vm.report.outcomes import CaseOutcome
from vm.report.results import CaseResult, KernelResult, RunResult

if TYPE_CHECKING:
    from pathlib import Path


def run_of(kernels: list[KernelResult]) -> RunResult:
    return RunResult(
        command=["pytest"],
        started="2026-01-01T00:00:00+00:00",
        duration=1.5,
        exit=0,
        outcome="passed",
        tools={},
        kernels=kernels,
    )


def row_of(bug: str, outcome: CaseOutcome, release: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last cell of a bug's row, where each of its cases came out as `outcome` on a kernel."""
    cases = [CaseResult(id=f"{name}[any]", outcome=outcome, seconds=1) for name in cases_of_bugs()[bug]]
    kernels = [KernelResult(name="never booted"), KernelResult(name="k", release=release, cases=cases)]
    results.write(run_of(kernels), directory)
    assert main(["ledger", str(directory)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"│ {bug} ")]
    return row.split("│")[-2].strip()


def test_bug_that_a_kernel_has_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", CaseOutcome.XFAILED, "5.10.223", tmp_path, capsys) == "affected, shown"


def test_bug_that_was_fixed_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", CaseOutcome.PASSED, "5.10.234", tmp_path, capsys) == "fixed, as tested"


def test_outcome_that_the_ledger_does_not_expect_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", CaseOutcome.FAILED, "5.10.234", tmp_path, capsys) == "fixed, but 1 of 1 differ"


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "kernels": [{}]}', '{"schema": 1, "kernels": [3]}'],
)
def test_results_that_are_none_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    assert main(["ledger", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_results_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(tmp_path)]) == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err

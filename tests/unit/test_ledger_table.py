# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ledger's table says of each bug whether a kernel has it, and what its cases came to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.__main__ import main
from harness.commands.ledger import cases_of_bugs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def row_of(bug: str, outcome: str, release: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last cell of a bug's row, where each of its cases came out as `outcome` on a kernel."""
    cases = [{"id": f"{name}[any]", "outcome": outcome} for name in cases_of_bugs()[bug]]
    kernel = {"name": "k", "release": release, "version": "", "cases": cases}
    (directory / "results.json").write_text(json.dumps({"kernels": [kernel]}))
    assert main(["ledger", str(directory)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"│ {bug} ")]
    return row.split("│")[-2].strip()


def test_bug_that_a_kernel_has_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", "xfailed", "5.10.223", tmp_path, capsys) == "affected, shown"


def test_bug_that_was_fixed_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", "passed", "5.10.234", tmp_path, capsys) == "fixed, as tested"


def test_outcome_that_the_ledger_does_not_expect_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row_of("K12", "failed", "5.10.234", tmp_path, capsys) == "fixed, but 1 of 1 differ"


def test_results_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(tmp_path)]) == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err

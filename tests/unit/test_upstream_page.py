# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/upstream.md has a case for every scenario of the kernel's own tests, and the cases are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/upstream.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|")
][2:]
CASE = re.compile(r"\[(\w+)\]\(\.\./(cases/test_\w+\.py)\)")


def test_no_cell_is_empty() -> None:
    assert len(ROWS) > 40
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_scenario_has_cases_that_exist(row: list[str]) -> None:
    cases = CASE.findall(row[2])
    assert ", ".join(f"[{name}](../{file})" for name, file in cases) == row[2]
    missing = [
        name
        for name, file in cases
        if not re.search(rf"^def test_{name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []

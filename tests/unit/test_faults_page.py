# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Each fault of docs/faults.md has a test, which is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.boot.qemu import OLDEST

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("|")][2:]


def test_rows_have_three_cells() -> None:
    assert len(ROWS) > 30
    assert [row for row in ROWS if len(row) != 3] == []


@pytest.mark.parametrize("test", sorted({row[-1].strip("`") for row in ROWS}))
def test_fault_has_a_test(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_killed_runs_are_all_on_the_page() -> None:
    tests = re.findall(r"^def (test_\w+)\(.* -> None:$", (ROOT / "tests/vm/test_killed.py").read_text(), re.MULTILINE)
    assert [name for name in tests if f"tests/vm/test_killed.py::{name}`" not in PAGE] == []


def test_oldest_qemu_is_that_of_the_code() -> None:
    assert f"older than {'.'.join(map(str, OLDEST))}," in PAGE

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pages under docs/ name what the code has, and nothing that it has not."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from vm.outcomes import EXIT_STATUS, Outcome
from vm.results import CaseResult, KernelResult, RunResult, SplatResult

ROOT = Path(__file__).resolve().parents[2]


def test_exit_statuses_are_those_of_the_code_in_their_order() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", page, flags=re.MULTILINE)
    assert [(int(status), outcome) for status, outcome in rows] == [
        (status, verdict.value) for verdict, status in EXIT_STATUS.items()
    ]


@pytest.mark.parametrize(
    ("opening", "kind"),
    [("The run:", RunResult), ("Each of `kernels`", KernelResult), ("Each of `splats`", SplatResult),
     ("Each of `cases`", CaseResult)],
)  # fmt: skip
def test_schema_names_every_field(opening: str, kind: type) -> None:
    page = (ROOT / "docs/results.md").read_text()
    (paragraph,) = (text for text in page.split("\n\n") if text.startswith(opening))
    named = set(re.findall(r"`(\w+)`", paragraph.removeprefix(opening)))
    assert {field.name for field in fields(kind)} <= named


def test_schema_names_every_outcome_of_a_case() -> None:
    page = (ROOT / "docs/results.md").read_text()
    assert [outcome.value for outcome in Outcome if outcome.value not in page] == []


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    targets = re.findall(r"\]\(([^)#:]+)\)", here.read_text())
    assert [target for target in targets if not (here.parent / target).exists()] == []

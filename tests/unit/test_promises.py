# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rules.md is written from marks, what they rest on, and recorded runs; `python -m harness rules` does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.__main__ import main
from harness.commands import rules
from harness.commands.rules import RulesError, page_of, promises, record
from harness.interface.marks import MarkedCase, marked
from harness.kernel.release import Release

if TYPE_CHECKING:
    from pathlib import Path

CASES = {
    "bind.matrix": marked("promise")["bind.matrix"],
    "bind.new": [MarkedCase(id="cases/test_x.py::test_n", says="N.")],
}
BASIS = {
    "bind": {
        "rests_on": "`f`",
        "others": {"new": "`g`"},
        "unchecked": {"big": {"says": "B.", "rests_on": "`h`", "why": "w"}},
    }
}
SHARED, ALONE_TCP = (
    "cases/test_ledger.py::test_binds_collide_where_addresses_overlap[" + name for name in ("shared-udp]", "alone-tcp]")
)
OLD, NEW = Release(6, 1, 192), Release(6, 1, 200)


def test_a_mark_of_one_parameter_set_counts() -> None:
    assert SHARED.partition("[")[0] in {case.id for case in marked("ledger")["K20"]}


def test_a_row_has_its_own_basis_or_its_section_s_and_says_what_the_case_says() -> None:
    page = page_of(
        promises(CASES, BASIS), {"bind.new": {"6.12": "passed", "6.1": "passed", "5.10.3": "K1", "7.2": "passed"}}
    )
    assert "| `bind.new` | N. | `g` | 6.1, 6.12, 7.2; not 5.10.3 (K1) | [test_n](../cases/test_x.py) |" in page
    assert f"| `bind.matrix` | {CASES['bind.matrix'][0].says} | `f` |  | [" in page
    assert "| `bind.big` | B. | `h` |  | not checked: w |" in page


@pytest.mark.parametrize(
    ("cases", "basis", "says"),
    [
        (CASES, {}, "no section for bind.matrix, bind.new"),
        (CASES, {"bind": {**BASIS["bind"], "others": {"gone": "`g`"}}}, "no case has the mark of bind.gone"),
        (
            CASES,
            {"bind": {**BASIS["bind"], "unchecked": {"new": {}}}},
            "bind.new that no case checks it, and a case does",
        ),
    ],
)
def test_what_does_not_go_together_is_named(cases: rules.Cases, basis: rules.Basis, says: str) -> None:
    with pytest.raises(RulesError, match=says):
        promises(cases, basis)


def test_a_record_of_what_no_case_checks_is_named() -> None:
    with pytest.raises(RulesError, match=r"records bind\.big, which no case checks"):
        page_of(promises(CASES, BASIS), {"bind.big": {"6.1": "passed"}})


@pytest.mark.parametrize(
    ("before", "release", "outcomes", "after"),
    [
        ({}, OLD, {SHARED: "passed", ALONE_TCP: "passed"}, {"6.1": "passed"}),
        ({}, OLD, {SHARED: "passed", ALONE_TCP: "xfailed"}, {"6.1.192": "K20"}),
        ({}, OLD, {SHARED: "passed", ALONE_TCP: "skipped"}, {"6.1": "passed"}),
        ({"6.1.192": "K20", "6.12": "passed"}, NEW, {ALONE_TCP: "xfailed"}, {"6.1.200": "K20", "6.12": "passed"}),
        ({"6.1.192": "K20"}, NEW, {ALONE_TCP: "passed"}, {"6.1.192": "K20", "6.1": "passed"}),
    ],
)
def test_runs_are_recorded(
    before: dict[str, str], release: Release, outcomes: dict[str, str], after: dict[str, str]
) -> None:
    seen = {"bind.matrix": before}
    assert record(seen, [(release, outcomes)], CASES) == []
    assert seen == {"bind.matrix": after}


@pytest.mark.parametrize("outcome", ["failed", "not run", "hung", "xpassed"])
def test_a_promise_that_was_broken_unexpectedly_is_left_as_it_was_and_named(outcome: str) -> None:
    seen = {"bind.matrix": {"6.1": "passed"}}
    (left,) = record(seen, [(NEW, {SHARED: outcome, ALONE_TCP: "passed"})], CASES)
    assert left == f"bind.matrix on 6.1.200, of which a case came to: {outcome}"
    assert seen == {"bind.matrix": {"6.1": "passed"}}


def test_a_promise_that_no_case_tried_is_not_recorded() -> None:
    seen: rules.Seen = {}
    assert record(seen, [(NEW, {SHARED: "skipped", "cases/test_x.py::test_other": "passed"})], CASES) == []
    assert seen == {}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the files that the command reads and writes, in the place of docs/."""
    for name in ("PAGE", "BASIS", "SEEN"):
        file = tmp_path / getattr(rules, name).name
        file.write_text(getattr(rules, name).read_text())
        monkeypatch.setattr(rules, name, file)
    return tmp_path


def test_a_run_is_recorded_by_one_command(docs: Path) -> None:
    case = next(iter(marked("promise")["attach.optlen"])).id
    kernel = {"name": "9.9", "release": "9.9.3", "version": "", "cases": [{"id": f"{case}[0]", "outcome": "passed"}]}
    (docs / "results.json").write_text(json.dumps({"kernels": [kernel]}))
    assert main(["rules", str(docs)]) == 0
    (row,) = (line for line in (docs / "rules.md").read_text().splitlines() if "attach.optlen" in line)
    assert ", 9.9 |" in row
    assert rules.written(rules.read_seen(docs / "rules-seen.json")) == (docs / "rules-seen.json").read_text()


@pytest.mark.parametrize("content", [None, "", "{}", "[]"])
def test_a_run_that_cannot_be_read_is_named_and_changes_nothing(
    docs: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    run = docs / "run"
    if content is not None:
        run.write_text(content)
    before = {file: file.read_text() for file in docs.iterdir()}
    assert main(["rules", str(run)]) == 2
    said = capsys.readouterr().err
    assert "docs/rules.md is left as it is" in said
    assert str(run) in said
    assert {file: file.read_text() for file in docs.iterdir()} == before

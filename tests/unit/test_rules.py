# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rules.md and the cases name the same promises; the ledger's bugs each have a case or a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from harness.kernel import ledger
from harness.kernel.features import FEATURES
from harness.kernel.ledger import State, bugs
from harness.kernel.release import Release, of_uname

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(?P<id>[\w.'-]+)` \| (?P<promise>.+?) \| (?P<basis>.+?) \| (?P<seen>.*?) \| (?P<case>.+?) \|$")


def marks(name: str) -> dict[str, set[str]]:
    """Return the ids that marks of that name have in cases/, and the functions that have them."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "cases").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            called_name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if called_name == name:
                for argument in node.args:
                    assert isinstance(argument, ast.Constant)
                    found.setdefault(str(argument.value), set()).add(path.name)
    return found


def rows() -> dict[str, re.Match[str]]:
    table = [line for line in (ROOT / "docs" / "rules.md").read_text().splitlines() if line.startswith("| `")]
    matches = [match for line in table if (match := ROW.match(line))]
    assert len(matches) == len(table), "a row of docs/rules.md has another form"
    assert len({match["id"] for match in matches}) == len(matches), "an id stands twice in docs/rules.md"
    return {match["id"]: match for match in matches}


def test_marked_promises_are_those_of_the_table() -> None:
    marked = {name for name, row in rows().items() if row["case"] == "marked"}
    assert set(marks("promise")) == marked


def test_other_promises_name_a_case_or_a_reason() -> None:
    for name, row in rows().items():
        if row["case"] == "marked":
            continue
        if found := re.fullmatch(r"`(cases/test_\w+\.py)::(test_\w+)`", row["case"]):
            path, function = found.groups()
            assert f"def {function}(" in (ROOT / path).read_text(), f"{name} names no case that there is"
        else:
            assert row["case"].startswith("not checked: "), f"{name} has neither case nor reason"


def test_every_bug_has_a_case_or_a_reason() -> None:
    shown = set(marks("ledger"))
    assert shown <= set(bugs())
    for name, bug in bugs().items():
        assert (name in shown) or bug.unchecked, f"{name} has neither case nor reason"
        assert not (bug.campaign and bug.unchecked)


def test_commits_of_the_ledger_are_hashes_or_left_out() -> None:
    for name, bug in bugs().items():
        assert re.fullmatch(r"([0-9a-f]{12})?", bug.commit), name
        assert all(re.fullmatch(r"([0-9a-f]{12}|-) \S.*", each) for each in bug.also), name


def test_bugs_were_tried_where_their_cases_run() -> None:
    for name, bug in bugs().items():
        assert not (bug.tried and bug.unchecked), f"{name} has no case that could have been tried"
        assert list(bug.tried) == sorted(set(bug.tried)), name
        for release in bug.tried:
            assert bug.state(release) is not State.UNKNOWN, f"{name}: {release} was tried, so it is known"


@pytest.mark.parametrize(
    ("name", "release", "state"),
    [
        ("K19", "4.4", State.NOT_APPLICABLE),
        ("K19", "5.10.223", State.AFFECTED),
        ("K19", "6.1.1", State.UNKNOWN),
        ("K19", "6.1.192", State.FIXED),
        ("K19", "6.2", State.FIXED),
        ("K12", "5.10.223", State.AFFECTED),
        ("K12", "5.10.234", State.FIXED),
        ("K27", "7.2.8", State.AFFECTED),
        ("K27", "7.2.13", State.FIXED),
        ("K2", "5.4.54", State.AFFECTED),
        ("K2", "5.4.55", State.FIXED),
        ("K2", "5.5", State.AFFECTED),
        ("K24", "7.3", State.AFFECTED),
    ],
)
def test_state_of_a_release(name: str, release: str, state: State) -> None:
    assert bugs()[name].state(Release.parse(release)) is state


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('commit = ""\nintroduced = "4.5"', r"K99.*lacks subject"),
        ('commit = ""\nsubject = ""\nintroduced = "4.5"\nfxed = "5.4"', r"K99.*fxed"),
        ('commit = ""\nsubject = ""\nintroduced = "new"', r"K99.*'new'"),
    ],
    ids=["missing", "misspelled", "no-release"],
)
def test_wrong_entry_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: str, words: str) -> None:
    (tmp_path / "ledger.toml").write_text(f"[K99]\n{entry}\n")
    monkeypatch.setattr(ledger, "PATH", tmp_path / "ledger.toml")
    with pytest.raises(ValueError, match=words):
        bugs.__wrapped__()


@pytest.mark.parametrize(
    ("release", "version", "signature", "expected"),
    [
        ("6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-09-01)", "", Release(6, 1, 192)),
        ("5.10.0-32-amd64", "#1 SMP Debian 5.10.223-1 (2024-08-10)", "", Release(5, 10, 223)),
        ("5.15.0-91-generic", "#101-Ubuntu SMP", "Ubuntu 5.15.0-91.101-generic 5.15.131", Release(5, 15, 131)),
        ("6.12.107+deb13-amd64", "#1 SMP Debian 6.12.107-1", "", Release(6, 12, 107)),
        ("7.3-amd64", "#1 SMP 7.3~rc7-1~exp1", "", Release(7, 3)),
        ("6.18.44", "#1 SMP 5.4.3-1", "", Release(6, 18, 44)),
    ],
)
def test_release_is_the_upstream_one(release: str, version: str, signature: str, expected: Release) -> None:
    assert of_uname(release, version, signature) == expected


def test_some_kernel_of_the_matrix_has_every_feature() -> None:
    """A gate that no kernel can pass would hide its cases for good."""
    kernels = re.findall(r'^\[kernel\."(\d+\.\d+)"\]$', (ROOT / "vm" / "kernels.toml").read_text(), re.MULTILINE)
    newest = max(map(Release.parse, kernels))
    for feature in FEATURES.values():
        assert feature.introduced <= newest, f"{feature.name} came with {feature.introduced}, the newest is {newest}"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rules.md is written from the cases as they are; the ledger's bugs each have a case or a reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harness.commands import rules
from harness.interface.marks import marked
from harness.kernel import ledger
from harness.kernel.features import FEATURES
from harness.kernel.ledger import State, bugs
from harness.kernel.release import Release, of_uname

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_written_from_what_there_is_now() -> None:
    basis = tomllib.loads(rules.BASIS.read_text())
    page = rules.page_of(rules.promises(marked("promise"), basis), rules.read_seen(rules.SEEN))
    assert rules.PAGE.read_text() == page, "run python -m harness rules"


def test_bugs_that_the_table_names_are_in_the_ledger() -> None:
    seen = rules.read_seen(rules.SEEN)
    named = {
        bug
        for kernels in seen.values()
        for what in kernels.values()
        if what != rules.PASSED
        for bug in what.split(", ")
    }
    assert named <= set(bugs())


def test_every_bug_has_a_case_or_a_reason() -> None:
    shown = set(marked("ledger"))
    assert shown <= set(bugs())
    for name, bug in bugs().items():
        assert (name in shown) or bug.unchecked, f"{name} has neither case nor reason"
        assert not (bug.race and bug.unchecked)


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
        ("K29", "6.18.14", State.AFFECTED),
        ("K29", "6.18.15", State.AFFECTED),
        ("K29", "6.18.16", State.UNKNOWN),
        ("K29", "6.18.44", State.FIXED),
        ("K29", "6.17.13", State.AFFECTED),
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
    kernels = re.findall(r'^\[kernel\."(\d+\.\d+)"\]$', (ROOT / "vm/kernels/kernels.toml").read_text(), re.MULTILINE)
    newest = max(map(Release.parse, kernels))
    for feature in FEATURES.values():
        assert feature.introduced <= newest, f"{feature.name} came with {feature.introduced}, the newest is {newest}"

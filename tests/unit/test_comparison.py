# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What changed between two runs is shown, and nothing else; what is not the same on all kernels ends a run's output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from vm.__main__ import main
from vm.report import results
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import CaseResult, KernelResult, RunResult
from vm.report.summary import differences, lines

if TYPE_CHECKING:
    from pathlib import Path


def case(name: str, outcome: CaseOutcome = CaseOutcome.PASSED, *, observed: Any = None, reason: str = "") -> CaseResult:
    return CaseResult(id=f"cases/{name}", outcome=outcome, seconds=0.1, observed=observed, reason=reason)


def run_of(**kernels: list[CaseResult]) -> RunResult:
    return RunResult(
        command=["pytest"],
        started="2026-01-01T00:00:00+00:00",
        duration=1.5,
        exit=0,
        outcome="passed",
        tools={},
        kernels=[
            KernelResult(name=name, release=f"{name}.0-test", outcome=KernelOutcome.PASSED, vms=1, cases=cases)
            for name, cases in kernels.items()
        ],
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return tmp_path


def keep(root: Path, name: str, **kernels: list[CaseResult]) -> Path:
    (root / name).mkdir()
    return results.write(run_of(**kernels), root / name)


def test_changes_are_shown_by_case(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    was = [
        case("test_a.py::test_same", observed=["member 3, PASS"]),
        case("test_a.py::test_broken", observed=["member 3, PASS", "member 5, PASS"]),
        case("test_a.py::test_other", observed=["member 3, PASS", "member 5, PASS"]),
        case("test_a.py::test_gone"),
    ]
    now = [
        case("test_a.py::test_same", observed=["member 3, PASS"]),
        case("test_a.py::test_broken", CaseOutcome.FAILED, observed=["member 3, PASS"], reason="member 4"),
        case("test_a.py::test_other", observed=["member 3, PASS", "member 6, PASS"]),
        case("test_b.py::test_new", CaseOutcome.SKIPPED, reason="no such thing"),
    ]
    keep(root, "one", **{"6.1": was})
    keep(root, "two", **{"6.1": now})
    assert main(["compare", "one", "two"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "cases/test_a.py::test_broken",
        "  outcome   passed",
        "            failed (member 4)",
        "  observed  2 entries",
        "            1 entries",
        "cases/test_a.py::test_other",
        '  observed  [1] "member 5, PASS"',
        '            [1] "member 6, PASS"',
        "cases/test_a.py::test_gone",
        "  outcome   passed",
        "            absent",
        "cases/test_b.py::test_new",
        "  outcome   absent",
        "            skipped (no such thing)",
        "4 of 5 cases changed between one (6.1.0-test) and two (6.1.0-test)",
    ]


def test_runs_that_are_the_same_end_with_0(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(root, "one", **{"6.1": [case("test_a.py::test_x", observed={"hash": 1})]})
    two = keep(root, "two", **{"7.2": [case("test_a.py::test_x", observed={"hash": 1})]})
    assert main(["compare", "one", str(two)]) == 0
    assert capsys.readouterr().out.startswith("0 of 1 cases changed")


def test_skipped_case_has_no_difference_in_what_was_observed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(root, "one", **{"6.1": [case("test_a.py::test_x", observed=["member 3, PASS"])]})
    keep(root, "two", **{"5.10": [case("test_a.py::test_x", CaseOutcome.SKIPPED, reason="too old")]})
    assert main(["compare", "one", "two"]) == 1
    assert "observed" not in capsys.readouterr().out


def test_kernels_of_one_run_are_told_apart_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = [case("test_a.py::test_x", observed={"seen": [1], "hash": 2})]
    keep(root, "run", **{"6.1": [case("test_a.py::test_x", observed={"seen": [1], "hash": 1})], "7.2": other})
    assert main(["compare", "run:6.1", f"{root}/run:7.2"]) == 1
    assert "  observed  hash: 1\n            hash: 2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("absent", "there is no run absent; .* has two-kernels"),
        ("", "there is no run ''; .* has two-kernels"),
        ("x" * 300, "there is no run x{300}; .* has two-kernels"),
        ("killed", "killed has no results.json"),
        ("two-kernels", "has several kernels: say which, as RUN:KERNEL; it has 6.1, 7.2"),
        ("two-kernels:6.2", "has no kernel 6.2; it has 6.1, 7.2"),
        ("other", "holds no results"),
        ("newer", "has schema 99, this program reads 1"),
    ],
)
def test_word_that_names_no_run(root: Path, capsys: pytest.CaptureFixture[str], word: str, said: str) -> None:
    keep(root, "two-kernels", **{"6.1": [], "7.2": []})
    (root / "killed/6.1").mkdir(parents=True)
    (root / "other").write_text("{}")
    (root / "newer").write_text('{"schema": 99}')
    assert main(["compare", word, "two-kernels:6.1"]) == 4
    assert re.match(f"error: .*{said}", capsys.readouterr().err)


def test_function_whose_cases_agree_is_one_line() -> None:
    new, old, partly = "test_a.py::test_new", "test_a.py::test_old", "test_a.py::test_partly"
    passed = [case(f"{name}[{at}]") for name in (new, old, partly) for at in "xy"]
    skipped = [case(f"{new}[{at}]", CaseOutcome.SKIPPED) for at in "xy"]
    differing = [*skipped, *passed[2:5], case(f"{partly}[y]", CaseOutcome.FAILED)]
    assert list(differences(run_of(**{"5.10": differing, "6.1": passed, "7.2": passed}))) == [
        f"cases/{new}, all 2 cases: skipped on 5.10; passed on 6.1, 7.2",
        f"cases/{partly}[y]: failed on 5.10; passed on 6.1, 7.2",
    ]


def test_every_case_that_differs_between_kernels_is_named() -> None:
    same, ok = case("test_a.py::test_same"), case("test_a.py::test_x")
    run = run_of(
        **{
            "6.1": [same, ok],
            "6.12": [same, case("test_a.py::test_x", CaseOutcome.FAILED)],
            "7.2": [same],
            "7.3": [],  # did not boot: what it would have come to is not known
        }
    )
    assert list(differences(run)) == ["cases/test_a.py::test_x: passed on 6.1; failed on 6.12; absent on 7.2"]
    shown = [line.split() for line in lines(run)]
    assert ["a", "2", "1,", "1", "failed", "1", "-"] in shown
    assert list(differences(run_of(**{"6.1": [same, ok]}))) == []

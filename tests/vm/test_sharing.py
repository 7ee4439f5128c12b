# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Three real VMs share the cases of one kernel, and one panics: that costs the case which ran in it, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharing import CASES, GO, PANICS, SIGNS
from started import HERE, KERNEL, started

from vm.report import history

if TYPE_CHECKING:
    from pathlib import Path


def at_work(directory: Path) -> set[str]:
    """Return the names of the consoles on which a case has begun."""
    consoles = directory.glob("results/[0-9]*/*/console*.log")
    return {file.name for file in consoles if "begin sharing.py" in file.read_text(errors="replace")}


def test_panic_costs_one_case_of_three_vms(tmp_path: Path) -> None:
    names = [f"test_shared[{number}]" for number in range(CASES)]
    slow = history.Entry(digest="", outcome="passed", since="", release="", seconds=[10.0])
    directory = tmp_path / "run"
    (directory / "results").mkdir(parents=True)
    (directory / SIGNS).mkdir()
    # What earlier runs say has the VMs started at once.
    history.write(
        history.History(kernels={KERNEL: {f"sharing.py::{name}": slow for name in names}}),
        directory / "results" / history.FILE,
    )
    # Each waits in its first case for as long as the others take to boot.
    arguments = ("--kernel", KERNEL, "--vms", "3", "--vm-timeout", "600")
    with started(directory, *arguments, source=HERE / "sharing.py") as run:
        run.wait_for(
            lambda: at_work(directory) == {"console.log", "console-2.log", "console-3.log"}, "three VMs", seconds=500
        )
        (directory / SIGNS / GO).touch()
        assert run.ended() == 1, run.output
        assert run.left() == []
    assert list(run.outcomes) == names, "in the order of the file"
    assert {name: outcome for name, outcome in run.outcomes.items() if outcome != "passed"} == {
        f"test_shared[{PANICS}]": "failed"
    }
    (kernel,) = run.results["kernels"]
    assert "sysrq triggered crash" in kernel["cases"][PANICS]["reason"]
    assert {case["observed"] for case in kernel["cases"] if case["observed"]} >= {"1", "2", "3"}
    assert kernel["splats"] == []
    assert [file.name for file in (run.directory / "results/latest" / KERNEL).glob("console*")] == ["console.log"]
    for name in names:
        assert run.console.count(f"reuseport-harness: begin sharing.py::{name}\n") == 1, name

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e host` runs all cases in several processes, and a few cases in one; the results are the same."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from runs import run_pytest

from harness.kernel.preflight import missing_requirement
from harness.kernel.release import Release, running

if TYPE_CHECKING:
    from pathlib import Path

CASES = """
import os, signal
import pytest
from harness.interface.keys import CPU_OF_PROCESS

@pytest.mark.parametrize("number", range(8))
def test_good(number, pytestconfig):
    given = getattr(pytestconfig, "workerinput", {})
    with open("places", "a") as file:
        file.write(f"{given.get('workerid')} {given.get(CPU_OF_PROCESS)}\\n")

def test_bad():
    assert [1, 3] == [1, 2]

def test_deadly():
    if "DIE" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""
GOOD = {f"test_good[{number}]": "passed" for number in range(8)}
PLUGINS = ("-p", "harness.plugin", "--where-possible")
here = pytest.mark.skipif(missing_requirement() is not None, reason=f"cases cannot run here: {missing_requirement()}")


@pytest.mark.parametrize("processes", ["0", "2"])
def test_results_are_the_same_from_any_number_of_processes(tmp_path: Path, processes: str) -> None:
    done = run_pytest(tmp_path, [*PLUGINS, "-n", processes, "--ktap", "ktap"], source=CASES, variables={})
    assert done.status == 1, done.output
    expected = {**GOOD, "test_bad": "failed", "test_deadly": "passed"}
    assert list(done.cases().items()) == list(expected.items())  # in this order
    assert done.case("test_bad")["parts"][0]["expected"] == "[1, 2]"
    assert re.search(r"^ +not ok \d test_bad$", (tmp_path / "ktap").read_text(), re.MULTILINE)


def test_processes_are_dealt_to_the_cpus(tmp_path: Path) -> None:
    run_pytest(tmp_path, [*PLUGINS, "-n", "2"], source=CASES, variables={})
    places = dict(line.split() for line in (tmp_path / "places").read_text().splitlines())
    cpus = sorted(map(str, os.sched_getaffinity(0)), key=int)
    assert places == {"gw0": cpus[0], "gw1": cpus[1 % len(cpus)]}


def test_process_that_dies_costs_one_case(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, [*PLUGINS, "-n", "2"], source=CASES, variables={"DIE": "1"})
    assert done.cases() == {**GOOD, "test_bad": "failed", "test_deadly": "failed"}


@pytest.mark.parametrize("processes", ["0", "2"])
def test_file_that_cannot_be_imported_ends_the_run_before_its_first_case(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_broken.py").write_text("import nothing_there")
    done = run_pytest(tmp_path, [*PLUGINS, "-n", processes], source=CASES, variables={})
    assert done.status == pytest.ExitCode.INTERRUPTED, done.output
    assert "No module named 'nothing_there'" in done.output
    assert not (tmp_path / "places").exists()


def test_case_that_did_not_run_is_named(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, [*PLUGINS, "-n", "1", "-x"], source=CASES, variables={})
    assert done.cases() == {**GOOD, "test_bad": "failed", "test_deadly": "not run"}


@here
@pytest.mark.parametrize(
    ("words", "several"),
    [
        ([], True),
        (["."], True),
        (["-k", "good"], False),
        (["test_topic.py"], False),
        (["test_topic.py::test_good"], False),
        (["-s"], False),
        (["--pdb"], False),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_all_cases_take_several_processes_and_a_few_take_one(tmp_path: Path, words: list[str], several: bool) -> None:
    run_pytest(tmp_path, [*PLUGINS, "-n", "auto", *words], source=CASES, variables={})
    used = set(re.findall(r"^\S+", (tmp_path / "places").read_text(), re.MULTILINE))
    assert (used != {"None"}) == (several and running() >= Release(6, 8))


def test_number_in_the_environment_is_respected(tmp_path: Path) -> None:
    variables = {"PYTEST_XDIST_AUTO_NUM_WORKERS": "1"}
    run_pytest(tmp_path, [*PLUGINS, "-n", "auto"], source=CASES, variables=variables)
    assert {line.split()[0] for line in (tmp_path / "places").read_text().splitlines()} == {"gw0"}

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs in which a part of pytest, pytest-xdist or execnet that is not public has gone: they pass all the same."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from other_machines import PROJECT, add_kernels, clone, reachable
from runs import FAKE_VM, ROOT, run_pytest

from vm.base.private import HIDE
from vm.boot.acceleration import SUBSTITUTE
from vm.report import history

if TYPE_CHECKING:
    from pathlib import Path

CASES = """
import pytest

def test_good(record_property): record_property("observed", 3)

@pytest.mark.parametrize("n", range(2))
def test_several(n): pass

@pytest.mark.xfail(reason="a known bug", strict=True, raises=AssertionError)
def test_known(): assert False

def test_bad(): assert "member 4" == "member 3"
"""
OUTCOMES = {
    "test_good": "passed",
    "test_several[0]": "passed",
    "test_several[1]": "passed",
    "test_known": "xfailed",
    "test_bad": "failed",
}

IN_A_GUEST = ("sendevent", "channel", "terminalreporter", "logging-plugin", "location", "getfuncargnames")
ON_THE_HOST = ("Popen2IO", "get_execmodel", "bootstrap", "_register", "terminal", "_gateways")
WITH_OTHER_MACHINES = ("Popen2IO", "_register", "nodemanager", "_gateways", "_io", "iochan")

FOR_ANOTHER_VM = ("setup_node", "queue", "_active_nodes", "_max_worker_restart")
FOR_ANOTHER_VM_AT_ONCE = ("loop_once",)

USERS = ("vm/base/insides.py", "vm/guest/fastpath.py")
"""The modules of vm/ that may use parts that are not public."""


@pytest.mark.parametrize("hidden", [*IN_A_GUEST, *ON_THE_HOST, " ".join((*IN_A_GUEST, *ON_THE_HOST))])
def test_run_passes_without(tmp_path: Path, hidden: str) -> None:
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    variables = {SUBSTITUTE: FAKE_VM, HIDE: hidden}
    run = run_pytest(tmp_path, ["--kernel", "./k61"], source=CASES, variables=variables, seconds=300)
    assert run.cases() == OUTCOMES, run.output
    assert run.status == 1
    assert run.case("test_good")["observed"] == 3


@pytest.mark.parametrize("hidden", WITH_OTHER_MACHINES)
def test_run_on_another_machine_passes_without(tmp_path: Path, hidden: str) -> None:
    for name in ("here", "good"):
        add_kernels(clone(tmp_path / name, CASES), "on-good")
    with reachable(tmp_path) as variables:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--kernel", "./on-good", "--on", "good"],
            cwd=tmp_path / "here" / PROJECT,
            env={**variables, HIDE: hidden},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 passed, 1 xfailed" in done.stdout


@pytest.mark.parametrize("hidden", FOR_ANOTHER_VM)
def test_kernel_keeps_to_one_vm_without(tmp_path: Path, hidden: str) -> None:
    """Though its cases take long enough for more, by what earlier runs say."""
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    (tmp_path / "results").mkdir()
    slow = history.Entry(digest="", outcome="passed", since="", release="", seconds=[100.0])
    known = {f"test_topic.py::{name}": slow for name in OUTCOMES}
    history.write(history.History(kernels={"k61": known}), tmp_path / "results" / history.FILE)
    variables = {SUBSTITUTE: FAKE_VM, HIDE: hidden}
    run = run_pytest(tmp_path, ["--kernel", "./k61", "--vms", "2"], source=CASES, variables=variables, seconds=300)
    assert run.cases() == OUTCOMES, run.output
    assert run.kernel()["vms"] == 1
    assert any("xdist starts no further workers" in note for note in run.kernel()["notes"])


@pytest.mark.parametrize("hidden", FOR_ANOTHER_VM_AT_ONCE)
def test_second_vm_is_started_when_the_first_is_up_without(tmp_path: Path, hidden: str) -> None:
    """In the second run, which knows that the kernel comes up and that its cases take long."""
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    slow = history.Entry(digest="", outcome="passed", since="", release="", seconds=[100.0])
    variables = {SUBSTITUTE: FAKE_VM, HIDE: hidden, "PYTHONDONTWRITEBYTECODE": ""}
    for vms in (1, 2):
        run = run_pytest(
            tmp_path, ["--kernel", "./k61", "--vms", str(vms)], source=CASES, variables=variables, seconds=300
        )
        assert run.cases() == OUTCOMES, run.output
        known = {f"test_topic.py::{name}": slow for name in OUTCOMES}
        history.write(history.History(kernels={"k61": known}), tmp_path / "results" / history.FILE)
    assert run.kernel()["notes"] == []


def test_each_part_is_hidden_once() -> None:
    asked = re.findall(r'\bpart\((?:"[\w.]+"|[\w.]+|part\(gateway, "_io"\)), "(\w+)"\)', "".join(map(source, USERS)))
    hidden = {*IN_A_GUEST, *ON_THE_HOST, *WITH_OTHER_MACHINES, *FOR_ANOTHER_VM, *FOR_ANOTHER_VM_AT_ONCE}
    assert {name for name in asked if name != "group"} <= hidden


def source(file: str) -> str:
    return (ROOT / file).read_text()


def test_no_other_module_reaches_into_a_library() -> None:
    """Comments and docstrings may name what is not public."""
    insides = re.compile(r"\b_pytest\b|execnet\.(?:gateway|multi)|\"dsession\"")
    files = [str(file.relative_to(ROOT)) for file in (ROOT / "vm").rglob("*.py")]
    code = {file: re.sub(r'""".*?"""|#[^\n]*', "", source(file), flags=re.DOTALL) for file in files}
    assert {file for file in files if insides.search(code[file])} == set(USERS)

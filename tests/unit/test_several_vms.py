# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Several VMs share the cases of one kernel, and a user sees one kernel; the VMs are processes of the host."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from filelock import FileLock
from other_machines import PROJECT, clone, reachable
from runs import CONFIGURATION, FAKE_VM, Run, environment, foreground, run_pytest
from small_archive import SmallArchive, one_kernel, signing_key, small_archive
from test_archive import needs_apt
from test_remote import child_is_in, children_of, processes_in, wait_until

from vm.base.memory import available
from vm.boot.acceleration import SUBSTITUTE
from vm.remote.hosts import HERE
from vm.report import history
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_kernel", "signing_key", "small_archive"]  # fixtures

HALF, MANY = 45, 90

CASES = f"""
import os, signal, time
from pathlib import Path
import pytest

kernel, vm = os.environ["REUSEPORT_KERNEL"], os.environ["REUSEPORT_VM"]

def log(text):
    Path(os.environ["REUSEPORT_KMSG"]).open("w").write(text + "\\n")

def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

def is_seen(file, words):
    return any(words in path.read_text() for path in Path().glob(f"results/*/{{file}}"))

@pytest.fixture(autouse=True, scope="module")
def others():
    Path(f"{{kernel}}.up.{{vm}}").touch()
    for other in os.environ.get("WAIT_FOR", "").split():
        wait_for(Path(f"{{kernel}}.up.{{other}}").exists)
    if kernel == "lonely":
        wait_for(lambda: is_seen("journal.jsonl", "did not come up"))

def work(n, record_property):
    record_property("observed", vm)
    busy = Path(f"{{kernel}}.busy.{{vm}}")
    busy.touch()
    time.sleep(0.02)
    busy.unlink()
    if kernel == "panics" and n == 60:
        log("<0>[   12.000000] Kernel panic - not syncing: sysrq triggered crash")
        os.kill(os.getpid(), signal.SIGKILL)
    if kernel == "splat" and n == 89:
        log("[   33.000000] WARNING: CPU: 0 PID: 7 at net/core/sock_reuseport.c:321 reuseport_add_sock")

@pytest.mark.parametrize("n", range({HALF}))
def test_one(n, record_property): work(n, record_property)

@pytest.mark.alone
@pytest.mark.parametrize("n", range(3))
def test_alone(n, record_property):
    record_property("observed", vm)
    assert list(Path().glob(f"{{kernel}}.busy.*")) == []
    time.sleep(0.1)
    assert list(Path().glob(f"{{kernel}}.busy.*")) == []

@pytest.mark.parametrize("n", range({HALF}, {MANY}))
def test_other(n, record_property): work(n, record_property)

def test_last(): pass
"""
IDS = [
    *(f"test_one[{n}]" for n in range(HALF)),
    *(f"test_alone[{n}]" for n in range(3)),
    *(f"test_other[{n}]" for n in range(HALF, MANY)),
    "test_last",
]


def run_in(directory: Path, kernel: str, *arguments: str, source: str = CASES, waiting_for: str = "") -> Run:
    """Run on one kernel, of whose cases earlier runs say that they take ten seconds each.

    Each VM waits in its first case until the VMs of these numbers are up.
    """
    (directory / kernel).write_bytes(image("6.1.0"))
    write_history(directory, kernel)
    variables = {SUBSTITUTE: FAKE_VM, "WAIT_FOR": waiting_for}
    return run_pytest(directory, ["--kernel", f"./{kernel}", *arguments], source=source, variables=variables)


def write_history(directory: Path, kernel: str) -> None:
    """Write what earlier runs in the directory have left."""
    known = {
        f"test_topic.py::{name}": history.Entry(digest="", outcome="passed", since="", release="", seconds=[10.0])
        for name in IDS
    }
    (directory / "results").mkdir()
    history.write(history.History(kernels={kernel: known}), directory / "results" / history.FILE)


@pytest.fixture(scope="module")
def panics(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Run:
    """Return a run on a kernel with three VMs, one of which panics; the workers of a test run share it."""
    directory = tmp_path_factory.getbasetemp().parent / f"panics-{testrun_uid}"
    with FileLock(f"{directory}.lock"):
        saved = directory / "run.json"
        if not saved.exists():
            directory.mkdir()
            run = run_in(directory, "panics", "--vms", "3", waiting_for="1 2 3")
            saved.write_text(json.dumps([run.status, run.output]))
        status, output = json.loads(saved.read_text())
    return Run(status, output, directory / "results/latest")


def vms_of(run: Run, case: str = "test_") -> set[str]:
    """Return the numbers of the VMs that ran a function's cases."""
    return {entry["observed"] for entry in run.kernel()["cases"] if f"::{case}" in entry["id"] and entry["observed"]}


def test_panic_costs_the_case_that_ran(panics: Run) -> None:
    assert (panics.status, panics.results["outcome"]) == (1, "failed"), panics.output
    assert {name: outcome for name, outcome in panics.cases().items() if outcome != "passed"} == {
        "test_other[60]": "failed"
    }
    assert panics.case("test_other[60]")["reason"].startswith("Kernel panic - sysrq triggered crash")
    assert panics.output.count("begin test_topic.py::test_other[60]") == 1, "the end of that VM's console is shown"


def test_vms_share_the_cases_and_results_are_in_their_order(panics: Run) -> None:
    assert vms_of(panics) >= {"1", "2", "3"}
    assert panics.kernel()["vms"] >= 3, "the one that panicked is replaced if enough is left"
    assert list(panics.cases()) == IDS


def test_cases_that_need_the_machine_have_it(panics: Run) -> None:
    assert len(vms_of(panics, "test_alone")) == 1


def test_consoles_become_one(panics: Run) -> None:
    (file,) = (panics.directory / "panics").glob("console*")
    console = file.read_text()
    assert file.name == "console.log"
    for number in (2, 3):
        assert console.count(f"---- another VM: number {number}, beside the first\n") == 1
    assert all(console.count(f"begin test_topic.py::{name}\n") == 1 for name in IDS)


def test_one_vm_where_no_more_are_wanted(tmp_path: Path) -> None:
    run = run_in(tmp_path, "k61", "--vms", "1")
    assert (run.status, run.kernel()["vms"]) == (0, 1), run.output
    assert vms_of(run) == vms_of(run, "test_alone") == {"1"}
    begun = re.findall(r"begin test_topic\.py::(.*)", (run.directory / "k61/console.log").read_text())
    assert begun == list(run.cases()) == IDS


@pytest.mark.parametrize("short_of", ["cores", "memory"])
def test_one_vm_where_there_is_room_for_one(tmp_path: Path, short_of: str) -> None:
    cores = os.sched_getaffinity(0)
    memory = []
    if short_of == "memory":
        memory = ["--memory", str(available() * 2 // 3)]
    else:
        os.sched_setaffinity(0, {min(cores)})
    try:
        run = run_in(tmp_path, "k61", *memory)
    finally:
        os.sched_setaffinity(0, cores)
    assert (run.status, run.kernel()["vms"]) == (0, 1), run.output


def test_few_cases_need_one_vm(tmp_path: Path) -> None:
    run = run_in(tmp_path, "k61", "--vms", "3", "-k", "alone or test_last")
    assert (run.status, run.kernel()["vms"]) == (0, 1), run.output


def test_splat_in_another_vm_names_its_case(tmp_path: Path) -> None:
    run = run_in(tmp_path, "splat", "--vms", "2", waiting_for="1 2")
    assert {name: outcome for name, outcome in run.cases().items() if outcome != "passed"} == {
        "test_other[89]": "splat"
    }, run.output
    assert vms_of(run) == {"1", "2"}
    (splat,) = run.kernel()["splats"]
    assert splat["case"] == "test_topic.py::test_other[89]"


def test_kernel_that_does_not_boot_is_tried_once(tmp_path: Path) -> None:
    run = run_in(tmp_path, "dies", "--vms", "3")
    assert run.kernel()["outcome"] == "infrastructure", run.output
    assert (run.directory / "dies/console.log").read_text().count("Linux version") == 1


BESIDE = """
import os, time
from pathlib import Path
import pytest

if vm := os.environ.get("REUSEPORT_VM"):
    Path(f"collects.{vm}").touch()
    deadline = time.monotonic() + 60
    while not all(Path(f"collects.{other}").exists() for other in os.environ["WAIT_FOR"].split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)

@pytest.mark.parametrize("n", range(4))
def test_one(n): pass
"""
"""Each VM collects when others do."""


def run_again(directory: Path, kernel: str, *arguments: str, waiting_for: str) -> Run:
    """Run as after an earlier run in the directory; the host collects, too."""
    (directory / kernel).write_bytes(image("6.1.0"))
    variables = {SUBSTITUTE: FAKE_VM, "WAIT_FOR": waiting_for, "PYTHONDONTWRITEBYTECODE": ""}
    return run_pytest(directory, ["--kernel", f"./{kernel}", *arguments], source=BESIDE, variables=variables)


def write_seconds(directory: Path, kernel: str, seconds: float) -> None:
    """Write how long an earlier run says that each case takes."""
    entry = history.Entry(digest="", outcome="passed", since="", release="", seconds=[seconds])
    known = {f"test_topic.py::test_one[{n}]": entry for n in range(4)}
    history.write(history.History(kernels={kernel: known}), directory / "results" / history.FILE)


def test_vms_of_a_kernel_that_came_up_before_boot_at_once(tmp_path: Path) -> None:
    """In the first run a second VM would not collect until the first has, which waits for it."""
    first = run_again(tmp_path, "k61", "--vms", "2", waiting_for="1")
    assert (first.status, first.kernel()["vms"]) == (0, 1), first.output
    write_seconds(tmp_path, "k61", 600.0)
    second = run_again(tmp_path, "k61", "--vms", "2", waiting_for="1 2")
    assert (second.status, second.kernel()["vms"]) == (0, 2), second.output


def test_one_vm_boots_where_one_is_enough(tmp_path: Path) -> None:
    for _ in range(2):
        run = run_again(tmp_path, "k61", "--vms", "2", waiting_for="1")
        assert (run.status, run.kernel()["vms"]) == (0, 1), run.output


def test_kernel_that_came_up_before_and_does_not_is_tried_once_next_time(tmp_path: Path) -> None:
    """Its image is that of the one that came up: it fails with the VMs that were started at once."""
    assert run_again(tmp_path, "k61", "--vms", "2", waiting_for="1").status == 0
    write_seconds(tmp_path, "dies", 600.0)
    boots = []
    for _ in range(2):
        run = run_again(tmp_path, "dies", "--vms", "2", waiting_for="1")
        assert run.kernel()["outcome"] == "infrastructure", run.output
        boots.append((run.directory / "dies/console.log").read_text().count("Linux version"))
    assert boots[0] <= 2
    assert boots[1] == 1


def test_vm_that_does_not_come_up_beside_another_is_left_out(tmp_path: Path) -> None:
    run = run_in(tmp_path, "lonely", "--vms", "3")
    assert (run.status, run.kernel()["vms"]) == (0, 1), run.output
    assert vms_of(run) == {"1"}
    assert any("one of its VMs did not come up" in note for note in run.kernel()["notes"])


def test_ctrl_c_ends_all_vms(tmp_path: Path) -> None:
    """Each waits in its first case for one that never comes."""
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION)
    (tmp_path / "test_topic.py").write_text(CASES)
    write_history(tmp_path, "k61")
    variables = environment(tmp_path, **{SUBSTITUTE: FAKE_VM, "WAIT_FOR": "1 2 9"})
    with (
        foreground(),
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "--kernel", "./k61", "--vms", "2"],
            cwd=tmp_path,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until((tmp_path / "k61.up.2").exists)
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    run = Run(process.returncode, output, tmp_path / "results/latest")
    assert run.status == pytest.ExitCode.INTERRUPTED, run.output
    assert set(run.cases().values()) == {"not run"}
    assert processes_in(tmp_path) == []
    assert [file.name for file in (run.directory / "k61").iterdir()] == ["console.log"]


ON_TWO_MACHINES = f"""
import os, time
from pathlib import Path
import pytest

machines = Path.cwd().parents[2]

@pytest.fixture(autouse=True, scope="module")
def others():
    (machines / f"up.{{os.environ['REUSEPORT_VM']}}").touch()
    deadline = time.monotonic() + 60
    while not (machines / "up.2").exists() or (machines / "wait").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)

@pytest.mark.parametrize("n", range({HALF}, {MANY}))
def test_other(n, record_property):
    record_property("observed", Path.cwd().parents[1].name)
    time.sleep(0.02)
"""


def give_another_name(project: Path) -> None:
    """Have the relays of a project take their machine for another one than that of the run."""
    site = project.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import platform\nplatform.node = lambda: 'another'\n")
    python = project / ".venv/bin/python"
    python.write_text(python.read_text().replace("exec", f"PYTHONPATH={site} exec"))


@contextlib.contextmanager
def started_on(
    small_archive: SmallArchive, directory: Path, *machines: str, vms: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """Start a run on machines below a directory, one of which is called good; each has room for so many VMs."""
    for name in ("here", "good"):
        project = clone(directory / name, ON_TWO_MACHINES)
        shutil.copy(directory.parent / "site/kernels.toml", project / "vm/kernels/kernels.toml")
    give_another_name(directory / "good" / PROJECT)
    write_history(directory / "here" / PROJECT, "6.1")
    words = [*small_archive.kernel, *(word for name in machines for word in ("--on", name)), "--vms", str(vms)]
    with (
        reachable(directory) as variables,
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *words],
            cwd=directory / "here" / PROJECT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@needs_apt
def test_machines_share_a_kernel_of_the_archive(small_archive: SmallArchive, tmp_path: Path) -> None:
    with started_on(small_archive, tmp_path / "machines", HERE, "good", "nowhere") as process:
        output, _ = process.communicate(timeout=90)
    run = Run(process.returncode, output, tmp_path / "machines/here" / PROJECT / "results/latest")
    assert (run.status, run.kernel()["vms"], run.kernel()["machine"]) == (0, 2, "here, good"), run.output
    assert vms_of(run) == {"here", "good"}
    assert "no VM runs there: nowhere: " in run.output


def break_connection(run: int, machine: Path) -> None:
    """Kill the ssh that a run has started, or what stands in for it and is in the directory of the machine."""
    for child in children_of(run):
        if child_is_in(child, machine) or Path(f"/proc/{child}/comm").read_text() == "ssh\n":
            os.kill(child, signal.SIGKILL)


@needs_apt
def test_connection_that_breaks_ends_a_kernel_with_all_its_vms_there(
    small_archive: SmallArchive, tmp_path: Path
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    (machines / "wait").touch()
    with started_on(small_archive, machines, "good", vms=2) as process:
        wait_until((machines / "up.2").exists)
        break_connection(process.pid, machines / "good")
        output, _ = process.communicate(timeout=90)
    run = Run(process.returncode, output, machines / "here" / PROJECT / "results/latest")
    assert run.status == EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], run.output
    assert set(run.cases().values()) == {"not run"}
    assert "6.1 could not run: good: the connection broke" in run.output


@needs_apt
def test_connection_that_breaks_costs_the_case_that_ran_there(small_archive: SmallArchive, tmp_path: Path) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    (machines / "wait").touch()
    with started_on(small_archive, machines, HERE, "good") as process:
        wait_until((machines / "up.2").exists)
        break_connection(process.pid, machines / "good")
        assert process.stdout is not None
        output = ""
        while "6.1 lost a VM: good: the connection broke: " not in output:
            line = process.stdout.readline()
            assert line, output
            output += line
        (machines / "wait").unlink()
        rest, _ = process.communicate(timeout=90)
    run = Run(process.returncode, output + rest, machines / "here" / PROJECT / "results/latest")
    assert run.status == EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], run.output
    assert sorted(run.cases().values()) == ["not run", *["passed"] * (MANY - HALF - 1)]
    assert "the connection broke" in run.kernel()["reason"]
    assert run.kernel()["vms"] == 2, "none in its place on a machine that was not asked for"


def test_first_failure_ends_all(tmp_path: Path) -> None:
    source = CASES.replace("    busy.unlink()\n", "    busy.unlink()\n    assert n != 60\n")
    run = run_in(tmp_path, "k61", "--vms", "2", "-x", source=source, waiting_for="1 2")
    assert run.status == 1, run.output
    outcomes = list(run.cases().values())
    assert outcomes.count("failed") == 1
    assert outcomes.count("not run") > 10

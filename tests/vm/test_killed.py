# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""kill -9 of a run, alone or with all of its job, at any moment: nothing of it is left, and the next run works.

For most of them the VM is a process of the host (tests/unit/fake_vm.py): a run then takes a second.
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from started import HERE, KERNEL, started  # first: it shows the way to tests/unit

from vm.boot.acceleration import SUBSTITUTE

# isort: split
from fake_archive import image
from runs import run_pytest
from small_archive import SmallArchive, one_kernel, signing_key, small_archive
from test_archive import needs_apt, stalling_mirror

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from started import Started

    Kill = Callable[[int, int], None]

__all__ = ["one_kernel", "signing_key", "small_archive"]  # fixtures

CASES = """
import os, time
from pathlib import Path

IN_GUEST = "REUSEPORT_KMSG" in os.environ

def stop_at(stage):
    if os.environ.get("STOP_AT") == stage:
        Path(stage).touch()
        time.sleep(600)

stop_at("collecting" if IN_GUEST else "collecting here")
def test_first(): pass
def test_second(): stop_at("running")
def test_third(): pass
"""

CONFTEST = """
import pytest
from test_topic import IN_GUEST, stop_at

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    here = not IN_GUEST and not session.config.option.collectonly
    if here:
        stop_at("judging")
    yield
    if here:
        stop_at("summing up")
"""

STALLS = """#!/bin/sh
[ -n "$STOP_AT" ] && exec sleep 600
exec {program} "$@"
"""
NEVER_BOOTS = "sh -c 'echo Linux version 6.1.0; exec sleep 600' sh"


RUN, JOB = os.kill, os.killpg
"""What is killed: the process that the user started, or all of the shell's job."""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return the directory of the run, with cases and kernels."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "conftest.py").write_text(CONFTEST)
    for name in ("k61", "k62"):
        (directory / name).write_bytes(image("6.1.0"))
    (tmp_path / "test_topic.py").write_text(CASES)
    return directory


def source(here: Path) -> Path:
    return here.parent / "test_topic.py"


def stalling(program: str, directory: Path) -> str:
    """Return a PATH on which one of the system's programs never ends while the environment has STOP_AT."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    assert found is not None
    (directory / program).write_text(STALLS.format(program=found))
    (directory / program).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def demand_nothing_left(run: Started, kill: Kill) -> None:
    """Kill a run, and hold what is left of it against what ought to be."""
    kill(run.process.pid, signal.SIGKILL)
    assert run.ended(seconds=30) == -signal.SIGKILL
    assert run.left() == []
    assert not (run.directory / "results/latest").is_symlink()
    # What `python -m vm report` makes the reports of.
    kept = {"console.log", "journal.jsonl"}
    assert {path.name for path in run.directory.glob("results/**/*") if not path.is_dir()} <= kept


def demand_the_next_run_works(here: Path, archive: SmallArchive, *arguments: str) -> None:
    """Run the cases once more, with nothing that stops them."""
    done = run_pytest(here, arguments, source=CASES, variables=archive.variables)
    assert done.status == 0, done.output
    assert set(done.cases().values()) == {"passed"}
    assert not list(archive.cache.rglob(".staging*"))
    assert not list(archive.cache.glob("*/apt/archives/*"))


@needs_apt
@pytest.mark.parametrize(("program", "kill"), [("apt-get", RUN), ("dpkg-deb", JOB), ("depmod", RUN)])
def test_while_a_kernel_is_fetched(small_archive: SmallArchive, here: Path, program: str, kill: Kill) -> None:
    variables = {**small_archive.variables, "PATH": stalling(program, here.parent), "STOP_AT": program}
    with started(here, *small_archive.kernel, source=source(here), variables=variables) as run:
        run.wait_for(lambda: run.processes("sleep"), program)
        demand_nothing_left(run, kill)
    demand_the_next_run_works(here, small_archive, *small_archive.kernel)


@needs_apt
def test_while_a_kernel_is_downloaded(small_archive: SmallArchive, here: Path) -> None:
    """The relay that has started apt is killed with the job; the next run continues the download."""
    with stalling_mirror(small_archive.archive.root) as mirror:
        arguments = ("--kernel", "6.1", "--mirror", mirror.address)
        with started(here, *arguments, source=source(here), variables=small_archive.variables) as run:
            run.wait_for(mirror.stalled.is_set, "download")
            demand_nothing_left(run, JOB)
        demand_the_next_run_works(here, small_archive, *arguments)


@needs_apt
def test_while_another_run_fetches_the_kernel(small_archive: SmallArchive, here: Path) -> None:
    small_archive.entry.parent.mkdir(parents=True)
    with (
        FileLock(small_archive.entry.with_name(".lock")),
        started(here, *small_archive.kernel, source=source(here), variables=small_archive.variables) as run,
    ):
        run.wait_until("waiting for another run that is fetching it")
        demand_nothing_left(run, RUN)
    demand_the_next_run_works(here, small_archive, *small_archive.kernel)


def test_while_a_kernel_boots_and_another_waits(small_archive: SmallArchive, here: Path) -> None:
    variables = {**small_archive.variables, SUBSTITUTE: NEVER_BOOTS}
    kernels = ("--vms", "1", "--kernel", "./k61", "--kernel", "./k62")
    with started(here, *kernels, source=source(here), variables=variables) as run:
        run.wait_until("Linux version", where="console")
        demand_nothing_left(run, JOB)
    demand_the_next_run_works(here, small_archive, "--kernel", "./k61")


@pytest.mark.parametrize(
    ("stage", "kill"), [("collecting here", JOB), ("collecting", RUN), ("running", JOB), ("judging", RUN)]
)
def test_while_cases_are_collected_and_run(small_archive: SmallArchive, here: Path, stage: str, kill: Kill) -> None:
    variables = {**small_archive.variables, "PYTHONDONTWRITEBYTECODE": "", "STOP_AT": stage}
    with started(here, "--kernel", "./k61", source=source(here), variables=variables) as run:
        run.wait_for((here / stage).exists, stage)
        if stage == "running":
            run.wait_for(lambda: list(here.glob("tmp/*/bytecode")), "bytecode for guests")
        demand_nothing_left(run, kill)
    demand_the_next_run_works(here, small_archive, "--kernel", "./k61")


def test_after_results_are_written(small_archive: SmallArchive, here: Path) -> None:
    """They are whole, and what is left to do is to say so."""
    variables = {**small_archive.variables, "STOP_AT": "summing up"}
    with started(here, "--kernel", "./k61", source=source(here), variables=variables) as run:
        run.wait_for((here / "summing up").exists, "results")
        run.process.kill()
        assert run.ended(seconds=30) == -signal.SIGKILL
        assert run.left() == []
    assert set(run.outcomes.values()) == {"passed"}


STAND_IN_FOR_TOX = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-m", "pytest", "--kernel", "./k61"]).returncode)
"""


def test_tox_alone(small_archive: SmallArchive, here: Path) -> None:
    """The run that it has started is interrupted."""
    (here / "stand_in.py").write_text(STAND_IN_FOR_TOX)
    variables = {**small_archive.variables, "STOP_AT": "running", "TOX_ENV_NAME": "vm"}
    with started(here, command=("stand_in",), source=source(here), variables=variables) as run:
        run.wait_for((here / "running").exists, "case")
        run.process.kill()
        assert run.ended(seconds=30) == -signal.SIGKILL
        assert run.left() == []
    assert run.outcomes == {"test_first": "passed", "test_second": "not run", "test_third": "not run"}


@needs_apt
def test_command_that_fetches_takes_apt_with_it(small_archive: SmallArchive, here: Path) -> None:
    """It would hold its lock for as long as the mirror is slow."""
    with stalling_mirror(small_archive.archive.root) as mirror:
        command = ("vm", "fetch", "6.1", "--mirror", mirror.address)
        with started(here, command=command, source=source(here), variables=small_archive.variables) as run:
            run.wait_for(mirror.stalled.is_set, "download")
            run.process.kill()
            assert run.ended(seconds=30) == -signal.SIGKILL
            assert run.left() == []


def test_while_the_initramfs_is_made(tmp_path: Path) -> None:
    """Its maker ends with the job, so another process has to remove it."""
    with started(tmp_path / "run", "--kernel", KERNEL) as run:
        run.wait_for(lambda: list(run.directory.glob("tmp/*/initramfs")), "initramfs")
        demand_nothing_left(run, JOB)


def test_while_cases_run_in_a_vm(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL, cases="wait", source=HERE / "trouble.py") as run:
        run.wait_until("reuseport-harness: begin trouble.py::test_wait", where="console")
        assert run.processes("qemu")
        demand_nothing_left(run, JOB)

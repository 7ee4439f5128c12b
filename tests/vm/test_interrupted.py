# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ctrl-C, and worse, at every stage of a run: nothing is left of it but results that say so."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from started import HERE, KERNEL, started

from harness.kernel.preflight import missing_requirement

if TYPE_CHECKING:
    from collections.abc import Callable

    from started import Started

WAITING = "reuseport-harness: begin trouble.py::test_wait"

MIRROR_THAT_STALLS = """#!/bin/sh
echo 'E: nobody reads this' >&2
exec sleep 600
"""


def end_by_ctrl_c(run: Started) -> None:
    """Do what the terminal does: every process of the job hears of it."""
    run.interrupt()


def end_by_signal(run: Started) -> None:
    """Do what a service manager or CI does: one process hears of it."""
    run.process.send_signal(signal.SIGINT)


def demand_interrupted(run: Started) -> None:
    """Hold what is left of a run against what Ctrl-C ought to leave."""
    assert run.ended(seconds=30) == pytest.ExitCode.INTERRUPTED, run.output
    assert run.left() == []
    assert (run.results["exit"], run.results["outcome"]) == (2, "interrupted")


@pytest.mark.parametrize("end", [end_by_ctrl_c, end_by_signal])
def test_while_a_kernel_is_fetched(tmp_path: Path, end: Callable[[Started], None]) -> None:
    """The mirror stalls: apt is there to be left behind."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text(MIRROR_THAT_STALLS)
    (tmp_path / "bin/apt-get").chmod(0o755)
    variables = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    arguments = ("--kernel", KERNEL, "--mirror", "http://127.0.0.1:9/debian")
    with started(tmp_path / "run", *arguments, variables=variables) as run:
        run.wait_until("downloading the package lists")
        run.wait_for(lambda: run.processes("sleep"), "apt at work")
        end(run)
        demand_interrupted(run)
    (kernel,) = run.results["kernels"]
    assert (kernel["outcome"], kernel["cases"]) == ("not finished", [])


@pytest.mark.parametrize("end", [end_by_ctrl_c, end_by_signal])
def test_while_a_kernel_boots(tmp_path: Path, end: Callable[[Started], None]) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL) as run:
        run.wait_until("Linux version", where="console")
        assert run.processes("qemu")
        end(run)
        demand_interrupted(run)
    (kernel,) = run.results["kernels"]
    assert (kernel["outcome"], kernel["cases"]) == ("not finished", [])


def test_while_cases_run(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL, cases="before or wait or after") as run:
        run.wait_until(WAITING, where="console")
        end_by_ctrl_c(run)
        demand_interrupted(run)
    assert run.outcomes == {"test_before": "passed", "test_wait": "not run", "test_after": "not run"}


def test_run_that_is_killed_takes_its_vm_with_it(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL) as run:
        run.wait_until("Linux version", where="console")
        assert run.processes("qemu")
        run.process.kill()
        assert run.ended(seconds=30) == -signal.SIGKILL
        assert run.left() == []


def test_relay_that_is_killed_takes_its_vm_with_it_and_another_takes_over(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL, cases="before") as run:
        run.wait_until("Linux version", where="console")
        (qemu,) = run.processes("qemu")
        relay = int(Path(f"/proc/{qemu}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(relay, signal.SIGKILL)
        run.wait_for(lambda: qemu not in run.processes("qemu"), "end of QEMU")
        assert run.ended() == 0, run.output
        assert run.left() == []
    assert run.outcomes == {"test_before": "passed"}


@pytest.mark.skipif(missing_requirement() is not None, reason=f"cases cannot run here: {missing_requirement()}")
@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("end", [end_by_ctrl_c, end_by_signal])
def test_while_cases_run_on_the_running_kernel(tmp_path: Path, end: Callable[[Started], None], processes: str) -> None:
    links, pinned = socket.if_nameindex(), sorted(Path("/sys/fs/bpf").rglob("*"))
    names = ("plugin", "plugins.gate", "plugins.own_program", "plugins.witness")
    plugins = (word for name in names for word in ("-p", f"harness.{name}"))
    with started(tmp_path / "run", *plugins, "--where-possible", "-n", processes, source=HERE / "waiting.py") as run:
        waits = run.directory / "waits"
        run.wait_for(waits.exists, "case that waits")
        namespace = network_of(waits.read_text())
        assert namespace != network_of("self")
        end(run)
        demand_interrupted(run)
    assert "not run" in run.outcomes.values()
    assert namespace not in namespaces()
    assert (socket.if_nameindex(), sorted(Path("/sys/fs/bpf").rglob("*"))) == (links, pinned)


def network_of(process: str) -> str:
    """Return what identifies the network namespace that a process is in."""
    return str(Path(f"/proc/{process}/ns/net").readlink())


def namespaces() -> set[str]:
    """Return the network namespaces that a process is in or that are mounted somewhere."""
    found = set()
    for task in Path("/proc").glob("[0-9]*/task/*"):
        with contextlib.suppress(OSError):  # it has ended
            found.add(network_of(str(task.relative_to("/proc"))))
    mounted = [line.split()[3] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " nsfs " in line]
    return found | set(mounted)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In real VMs: what becomes of a run whose kernel panics, complains, hangs, is lost or cannot run here at all.

Each outcome has its own exit status, in results.json, in junit.xml and at the end of the output.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from started import HERE, KERNEL, started

from harness.loader.compiler import compile_program
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from pathlib import Path

    from started import Started

WAITING = "reuseport-harness: begin trouble.py::test_wait"
SECONDS_WITHOUT_NEWS = 20


def told(run: Started, outcome: KernelOutcome) -> Any:
    """Check the run's end, its results and its summary for one outcome; return its only kernel's results."""
    status = run.ended()
    assert status == EXIT_STATUS[outcome], run.output
    results = run.results
    (kernel,) = results["kernels"]
    assert (results["exit"], results["outcome"], kernel["outcome"]) == (status, outcome, outcome)
    (line,) = [line for line in run.output.splitlines() if line.startswith("outcome ")]
    assert line.split(maxsplit=1)[1] == outcome
    assert run.left() == []
    return kernel


def reasons(kernel: Any) -> dict[str, str]:
    """Return why each case came to what it came to."""
    return {case["id"].partition("::")[2]: case["reason"] for case in kernel["cases"]}


def junit(run: Started) -> dict[str, str]:
    """Return the kind of problem of each entry of junit.xml that has one."""
    document = ElementTree.parse(run.directory / "results/latest/junit.xml")
    entries = {str(entry.get("name")): entry for entry in document.iter("testcase")}
    return {
        name: str(problem.get("type"))
        for name, entry in entries.items()
        for problem in (*entry.iter("failure"), *entry.iter("error"))
    }


def test_panic_fails_its_case_and_the_others_run_in_a_fresh_vm(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL, cases="before or panic or after") as run:
        kernel = told(run, KernelOutcome.FAILED)
    assert run.outcomes == {"test_before": "passed", "test_panic": "failed", "test_after": "passed"}
    assert "sysrq triggered crash" in reasons(kernel)["test_panic"]
    assert kernel["vms"] == 2
    assert junit(run) == {"test_panic": "failed"}
    assert "sysrq: Trigger a crash" in run.output, "the end of the console"


def test_complaint_of_the_kernel_is_held_against_the_case_that_ran(tmp_path: Path) -> None:
    with started(tmp_path / "run", "--kernel", KERNEL, cases="before or splat or after") as run:
        kernel = told(run, KernelOutcome.SPLAT)
    said = "WARNING: CPU: 0 PID: 1 at net/core/sock_reuseport.c:1 planted"
    assert run.outcomes == {"test_before": "passed", "test_splat": "splat", "test_after": "passed"}
    assert [(splat["kind"], splat["title"]) for splat in kernel["splats"]] == [("WARNING", said)]
    assert kernel["vms"] == 1
    assert junit(run) == {"test_splat": "splat", f"console: {said}": "splat"}


def test_map_that_only_the_kernel_holds_fails_the_file_and_names_its_case(tmp_path: Path) -> None:
    with started(tmp_path / "run", "-p", "harness.plugin", "--kernel", KERNEL, cases="before or leak or after") as run:
        kernel = told(run, KernelOutcome.FAILED)
    assert run.outcomes == {"test_before": "passed", "test_leak": "passed", "test_after": "failed"}
    details = {case["id"].partition("::")[2]: case["detail"] for case in kernel["cases"]}
    assert re.search(
        r"left behind map \d+, made by trouble.py::test_leak, and 2 more$", details["test_after"], re.MULTILINE
    )


def test_lost_hung_and_panicked_vms_have_different_outcomes(tmp_path: Path) -> None:
    """QEMU is killed; the kernel sees that it does not move on, and panics; it does not even see that."""
    object_file = compile_program(HERE / "spin.bpf.c")
    with started(
        tmp_path / "run",
        *("--kernel", KERNEL, "--vm-timeout", str(SECONDS_WITHOUT_NEWS)),
        cases="before or wait or lockup or hang or after",
        variables={"SPIN_OBJECT": str(object_file)},
    ) as run:
        run.wait_until(WAITING, where="console")
        (qemu,) = run.processes("qemu")
        os.kill(qemu, signal.SIGKILL)
        kernel = told(run, KernelOutcome.LOST_OR_HUNG)
    assert run.outcomes == {
        "test_before": "passed",
        "test_wait": "lost",
        "test_lockup": "hung",
        "test_hang": "hung",
        "test_after": "passed",
    }
    assert reasons(kernel)["test_lockup"] == "Kernel panic - softlockup: hung tasks (the VM ended while the case ran)"
    assert f"no news from it for {SECONDS_WITHOUT_NEWS}" in reasons(kernel)["test_hang"]
    assert kernel["vms"] == 4
    assert junit(run).items() >= {"test_wait": "lost", "test_lockup": "hung", "test_hang": "hung"}.items()


def test_kernel_without_9p_is_refused_before_it_boots(tmp_path: Path) -> None:
    """The cloud flavour of the distribution's kernel."""
    with started(tmp_path / "run", "--kernel", "6.1-cloud", cases="before") as run:
        kernel = told(run, KernelOutcome.INFRASTRUCTURE)
    assert "CONFIG_NET_9P_VIRTIO: the guest cannot reach the host's files" in kernel["reason"]
    assert (kernel["vms"], kernel["cases"]) == (0, [])
    assert junit(run) == {"kernel": "infrastructure"}

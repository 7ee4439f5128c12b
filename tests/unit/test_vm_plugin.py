# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The plugin, xdist and relays as a user meets them; only the VM is a process of the host (fake_vm.py).

Most of what can go wrong goes wrong in one run, on a kernel each: a run costs more than a kernel.
"""

from __future__ import annotations

import json
from argparse import Namespace
from functools import partial
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from fake_archive import image
from filelock import FileLock
from runs import FAKE_VM, ROOT, Run, run_pytest

from vm.boot.acceleration import SUBSTITUTE
from vm.controller.admission import Admission, capacity
from vm.kernels import requirements
from vm.plugin import demand_consistent
from vm.report.outcomes import EXIT_STATUS, CaseOutcome, KernelOutcome, conclude, gravest, kernel_outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


COMMON = """
import os, signal, time
from pathlib import Path
import pytest

kernel = os.environ["REUSEPORT_KERNEL"]

def log(text):
    Path(os.environ["REUSEPORT_KMSG"]).open("w").write(text + "\\n")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def test_first(): pass
"""

MISFITS = """
if kernel == "ordinary":
    def test_good(record_property): record_property("observed", {"member": 3})
    def test_bad(): assert "member 4" == "member 3"
    def test_skipped(): pytest.skip("no such thing here")
    @pytest.mark.xfail(reason="a known bug", strict=True)
    def test_known(): assert False
    @pytest.mark.xfail(reason="a known bug", strict=True)
    def test_gone(): pass
if kernel == "gated":
    def test_gated(record_property):
        record_property("missing_feature", "migrate")
        assert False
if kernel == "panics":
    def test_panics():
        log("<0>[   12.000000] Kernel panic - not syncing: sysrq triggered crash")
        die()
    def test_second(): assert kernel == "panics", "a replaced worker keeps its kernel's name"
if kernel == "lost":
    def test_dies(): die()  # the last one: there is nothing left to boot another VM for
if kernel == "hangs":
    def test_hangs(): time.sleep(600)
    def test_second(): pass
if kernel == "lockup":
    def test_locks_up():
        log("[   50.000000] Kernel panic - not syncing: softlockup: hung tasks")
        die()
if kernel == "splat":
    def test_warns(): log("[   33.000000] WARNING: CPU: 0 PID: 7 at net/core/sock_reuseport.c:321 reuseport_add_sock")
    def test_second(): pass
if kernel == "every":
    @pytest.mark.parametrize("n", range(6))
    def test_dies(n): die()
if kernel == "collecting":
    die()
if kernel == "internal":
    class Broken:
        def pytest_runtest_logfinish(self): raise RuntimeError("a hook is broken")
    def test_breaks(request): request.config.pluginmanager.register(Broken())
    def test_second(): pass
if kernel == "exits":
    def test_exits(): pytest.exit("the guest lacks memory")
    def test_second(): pass
"""

PLUGIN_OF_MISFITS = """
import os
import pytest

kernel = os.environ.get("REUSEPORT_KERNEL")

def pytest_configure():
    if kernel == "unconfigured":
        raise RuntimeError("a plugin is broken")

def pytest_collection_modifyitems():
    if kernel == "uncollected":
        raise pytest.UsageError("there is no such option")

@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    if kernel == "unable":
        pytest.exit("the guest lacks rights", returncode=pytest.ExitCode.USAGE_ERROR)
"""
KERNELS = (
    *("ordinary", "gated", "panics", "lost", "hangs", "lockup", "splat", "every", "collecting"),
    *("internal", "exits", "unconfigured", "uncollected", "unable"),
    *("dies", "silent", "mute"),  # by fake_vm.py
)


def run_in(directory: Path, source: str, kernels: tuple[str, ...], *arguments: str) -> Run:
    for name in kernels:
        (directory / name).write_bytes(image("6.1.0"))
    chosen = [word for name in kernels for word in ("--kernel", f"./{name}")]
    variables = {SUBSTITUTE: FAKE_VM}
    seconds = 60 + 10 * len(kernels)  # a limit, for a busy machine: most kernels take less than two
    return run_pytest(directory, [*chosen, *arguments], source=COMMON + source, variables=variables, seconds=seconds)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Return the function that runs `source` as cases in fake VMs."""

    def run(source: str, *arguments: str, kernels: tuple[str, ...] = ("k61",)) -> Run:
        return run_in(tmp_path, source, kernels, *arguments)

    return run


@pytest.fixture(scope="module")
def misfits(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Run:
    """Return a run on many kernels of which almost none is well; the workers of a test run share it."""
    directory = tmp_path_factory.getbasetemp().parent / f"misfits-{testrun_uid}"
    with FileLock(f"{directory}.lock"):
        saved = directory / "run.json"
        if not saved.exists():
            directory.mkdir()
            has = [option.name for option in requirements.wanted_options() if option.name != "CONFIG_DEBUG_INFO_BTF"]
            (directory / "config-6.1.0").write_text("".join(f"{name}=y\n" for name in has))
            (directory / "conftest.py").write_text(PLUGIN_OF_MISFITS)
            run = run_in(directory, MISFITS, KERNELS, "--vm-timeout", "3", "--vms", "3")
            saved.write_text(json.dumps([run.status, run.output]))
        status, output = json.loads(saved.read_text())
    return Run(status, output, directory / "results" / "latest")


def test_outcomes_of_an_ordinary_kernel(misfits: Run) -> None:
    assert misfits.cases("ordinary") == {
        "test_first": "passed",
        "test_good": "passed",
        "test_bad": "failed",
        "test_skipped": "skipped",
        "test_known": "xfailed",
        "test_gone": "xpassed",
    }
    assert misfits.case("test_good", kernel="ordinary")["observed"] == {"member": 3}
    assert misfits.case("test_skipped", kernel="ordinary")["reason"] == "no such thing here"
    assert "member 4" in misfits.case("test_bad", kernel="ordinary")["reason"]
    kernel = misfits.kernel("ordinary")
    assert (kernel["release"], kernel["outcome"], kernel["vms"]) == ("6.1.0-fake", "failed", 1)
    assert "begin test_topic.py::test_good" in (misfits.directory / "ordinary/console.log").read_text()


def test_option_that_a_kernel_lacks_is_noted(misfits: Run) -> None:
    (note,) = misfits.kernel("ordinary")["notes"]
    assert note.startswith("CONFIG_DEBUG_INFO_BTF: the kernel carries no type information")
    (line,) = [line for line in misfits.output.splitlines() if line.startswith("note: ") and line.endswith(note)]
    assert "ordinary" in line


def test_reports_of_an_ordinary_kernel(misfits: Run) -> None:
    junit = ElementTree.parse(misfits.directory / "junit.xml")
    (suite,) = [suite for suite in junit.iter("testsuite") if suite.get("name") == "ordinary"]
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["test_bad", "test_gone"]
    assert {case.get("classname") for case in suite.iter("testcase")} == {"ordinary.test_topic"}
    assert "        not ok 1 test_bad" in (misfits.directory / "results.ktap").read_text().splitlines()


def test_case_that_panics_fails_once_and_the_others_run_in_a_fresh_vm(misfits: Run) -> None:
    assert misfits.cases("panics") == {"test_first": "passed", "test_panics": "failed", "test_second": "passed"}
    assert misfits.case("test_panics", kernel="panics")["reason"].startswith("Kernel panic - sysrq triggered crash")
    assert misfits.kernel("panics")["outcome"] == "failed"
    assert misfits.kernel("panics")["vms"] == 2
    assert misfits.output.count("begin test_topic.py::test_panics") == 1, "the end of the console is shown"


def test_vm_that_ends_silently_is_lost(misfits: Run) -> None:
    assert misfits.cases("lost") == {"test_first": "passed", "test_dies": "lost"}
    assert misfits.kernel("lost")["outcome"] == "lost or hung"
    assert misfits.kernel("lost")["vms"] == 1


def test_hung_case_is_ended_by_the_watchdog(misfits: Run) -> None:
    assert misfits.cases("hangs") == {"test_first": "passed", "test_hangs": "hung", "test_second": "passed"}
    assert misfits.kernel("hangs")["outcome"] == "lost or hung"
    assert "no news" in misfits.case("test_hangs", kernel="hangs")["reason"]


def test_soft_lockup_is_a_hang(misfits: Run) -> None:
    """Its panic is what the boot parameters make of a hang."""
    assert misfits.cases("lockup") == {"test_first": "passed", "test_locks_up": "hung"}


def test_splat_names_its_case(misfits: Run) -> None:
    assert misfits.cases("splat") == {"test_first": "passed", "test_warns": "splat", "test_second": "passed"}
    assert misfits.kernel("splat")["outcome"] == "splat"
    (splat,) = misfits.kernel("splat")["splats"]
    assert (splat["kind"], splat["case"]) == ("WARNING", "test_topic.py::test_warns")


def test_console_without_the_marks_is_not_clean(misfits: Run) -> None:
    assert misfits.cases("mute") == {"test_first": "passed"}
    assert misfits.kernel("mute")["outcome"] == "infrastructure"
    assert "could not be scanned for splats" in misfits.kernel("mute")["reason"]


def test_missing_feature_is_an_outcome_of_its_own(misfits: Run) -> None:
    assert misfits.kernel("gated")["outcome"] == "feature missing"
    assert misfits.case("test_gated", kernel="gated")["missing_feature"] == "migrate"


def test_kernel_that_never_boots_is_shown_with_its_console(misfits: Run) -> None:
    assert misfits.kernel("dies")["outcome"] == "infrastructure"
    assert misfits.output.count("Unable to mount root fs") == 1


def test_kernel_that_does_not_finish_booting_is_given_up(misfits: Run) -> None:
    assert misfits.kernel("silent")["outcome"] == "infrastructure"
    assert "did not come up in time" in misfits.kernel("silent")["reason"]


def test_kernel_that_dies_at_every_case_ends(misfits: Run) -> None:
    assert list(misfits.cases("every").values()) == ["passed", *["lost"] * 4, *["not run"] * 2]
    assert misfits.kernel("every")["vms"] == 4


def test_vm_that_dies_while_collecting_is_given_up(misfits: Run) -> None:
    assert (misfits.kernel("collecting")["outcome"], misfits.kernel("collecting")["vms"]) == ("lost or hung", 4)


@pytest.mark.parametrize(
    ("kernel", "case", "why"),
    [
        ("internal", "test_breaks", "pytest had an internal error in the guest: RuntimeError: a hook is broken"),
        ("exits", "test_exits", "pytest ended in the guest: the guest lacks memory"),
    ],
)
def test_pytest_that_ends_in_a_case_fails_it_and_the_others_run_in_a_fresh_vm(
    misfits: Run, kernel: str, case: str, why: str
) -> None:
    assert misfits.cases(kernel) == {"test_first": "passed", case: "failed", "test_second": "passed"}
    assert misfits.case(case, kernel=kernel)["reason"] == f"{why} (the VM ended while the case ran)"
    assert (misfits.kernel(kernel)["outcome"], misfits.kernel(kernel)["vms"]) == ("failed", 2)
    assert f"{kernel}: FAILED test_topic.py::{case} - {why}" in misfits.output


def test_internal_error_is_shown_whole(misfits: Run) -> None:
    assert "in pytest_runtest_logfinish\n" in misfits.case("test_breaks", kernel="internal")["detail"]


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        ("unconfigured", "pytest had an internal error in the guest: RuntimeError: a plugin is broken"),
        ("uncollected", "pytest ended in the guest: pytest.UsageError: there is no such option"),
        ("unable", "pytest ended in the guest: the guest lacks rights"),
    ],
)
def test_pytest_that_ends_before_its_first_case_gives_its_kernel_up(misfits: Run, kernel: str, why: str) -> None:
    results = misfits.kernel(kernel)
    assert (results["outcome"], results["vms"], results["reason"]) == ("infrastructure", 1, why)
    assert set(misfits.cases(kernel).values()) <= {"not run"}
    reasons = {case["reason"] for case in results["cases"]}
    assert reasons <= {f"{why} (the VM ended before the case began)", "its kernel was given up"}
    assert f"{kernel}: ERROR {kernel} could not run: {why}" in misfits.output


def test_gravest_outcome_is_the_exit_status(misfits: Run) -> None:
    assert (misfits.status, misfits.results["exit"], misfits.results["outcome"]) == (12, 12, "lost or hung")


def test_closing_table_has_a_column_a_kernel(misfits: Run) -> None:
    lines = misfits.output.splitlines()
    (heads,) = [line.split() for line in lines if line.split()[:2] == list(KERNELS[:2])]
    assert heads == list(KERNELS)
    (outcomes,) = [line for line in lines if line.startswith("outcome ")]
    assert outcomes.count("infrastructure") == 6
    assert any(line.startswith("  test_topic.py::test_good: passed on ordinary; absent on ") for line in lines)
    assert " in " in lines[-1], "the last line is pytest's own"


def test_every_kernel_has_a_line_of_progress(misfits: Run) -> None:
    for name in KERNELS:
        assert f"{name}: done: " in misfits.output


def test_everything_passed_on_two_kernels_one_at_a_time(run: Callable[..., Run]) -> None:
    """With fewer VMs at once than kernels the second boots when the first has ended."""
    alone = """
def test_alone():
    lock = Path("lock")
    lock.mkdir()
    time.sleep(0.3)
    lock.rmdir()
"""
    done = run(alone, "--vms", "1", "--kernel", "./k61", kernels=("k61", "k62"))
    assert (done.status, done.results["exit"], done.results["outcome"]) == (0, 0, "passed"), done.output
    assert [kernel["name"] for kernel in done.results["kernels"]] == ["k61", "k62"], "one given twice runs once"
    assert "4 passed" in done.output.splitlines()[-1]


def test_worker_that_cannot_import_its_cases(run: Callable[..., Run]) -> None:
    done = run("raise RuntimeError('not importable')")
    assert done.status == 1, done.output
    assert "not importable" in done.output


def test_unknown_kernel_is_a_usage_error(run: Callable[..., Run]) -> None:
    done = run("", "--kernel", "9.99")
    assert done.status == pytest.ExitCode.USAGE_ERROR, done.output
    assert "9.99" in done.output
    assert "6.1" in done.output, "the names there are"
    assert not done.directory.exists()


def test_missing_file_of_cases_is_a_usage_error(run: Callable[..., Run]) -> None:
    done = run("", "no_such_cases.py::test_one")
    assert done.status == pytest.ExitCode.USAGE_ERROR, done.output
    assert "not found: no_such_cases.py" in done.output
    assert not done.directory.exists()


def test_no_case_selected(run: Callable[..., Run]) -> None:
    assert run("", "-k", "nothing").status == pytest.ExitCode.NO_TESTS_COLLECTED


def test_first_failure_ends_the_run(run: Callable[..., Run]) -> None:
    done = run("def test_bad(): assert False\ndef test_good(): pass", "-x")
    assert done.status == 1, done.output
    assert done.cases() == {"test_first": "passed", "test_bad": "failed", "test_good": "not run"}


@pytest.mark.parametrize(
    "given",
    [
        {"numprocesses": 2},
        {"dist": "each"},
        {"tx": ["popen"]},
        {"vms": 0},
        {"vm_timeout": 0.0},
        {"vm_timeout": float("nan")},
        {"maxworkerrestart": "some"},
        {"maxworkerrestart": "-1"},
    ],
    ids=str,
)
def test_options_that_do_not_go_with_kernels(given: dict[str, object]) -> None:
    usual: dict[str, object] = {
        "tx": [],
        "numprocesses": None,
        "dist": "no",
        "distload": False,
        "vms": None,
        "vm_timeout": 120.0,
        "maxworkerrestart": None,
    }
    demand_consistent(Namespace(**usual))
    with pytest.raises(pytest.UsageError):
        demand_consistent(Namespace(**{**usual, **given}))


def test_outcome_of_a_tested_kernel_outranks_infrastructure() -> None:
    assert [EXIT_STATUS[outcome] for outcome in EXIT_STATUS] == [12, 11, 10, 1, 13, 2, 0]
    assert gravest([KernelOutcome.INFRASTRUCTURE, KernelOutcome.FAILED]) is KernelOutcome.FAILED
    assert gravest([]) is KernelOutcome.PASSED


@pytest.mark.parametrize(
    ("cases", "outcome"),
    [
        ([CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED], KernelOutcome.PASSED),
        ([CaseOutcome.PASSED, CaseOutcome.FAILED], KernelOutcome.FAILED),
        ([CaseOutcome.XPASSED], KernelOutcome.FAILED),
        ([CaseOutcome.FAILED, CaseOutcome.FEATURE_MISSING], KernelOutcome.FEATURE_MISSING),
        ([CaseOutcome.FAILED, CaseOutcome.SPLAT], KernelOutcome.SPLAT),
        ([CaseOutcome.SPLAT, CaseOutcome.HUNG], KernelOutcome.LOST_OR_HUNG),
        ([CaseOutcome.LOST], KernelOutcome.LOST_OR_HUNG),
    ],
)
def test_outcome_of_a_kernel(cases: list[CaseOutcome], outcome: KernelOutcome) -> None:
    assert kernel_outcome(cases) is outcome


@pytest.mark.parametrize("status", [pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR])
def test_run_that_pytest_ended_keeps_its_status(status: int) -> None:
    assert conclude(KernelOutcome.LOST_OR_HUNG, status)[1] == status


@pytest.mark.parametrize(("cores", "memory", "vms"), [(8, 64_000, 8), (8, 3000, 2), (2, 500, 1), (1, 64_000, 1)])
def test_as_many_vms_as_cores_and_memory_allow(cores: int, memory: int, vms: int) -> None:
    assert capacity(memory=1024, cores=cores, available_mebibytes=memory) == vms


def test_vms_that_are_given_more_memory_are_fewer() -> None:
    assert capacity(memory=1024, cores=8, available_mebibytes=9000) == 6
    assert capacity(memory=4096, cores=8, available_mebibytes=9000) == 2


def test_kernels_are_admitted_in_order_on_each_host() -> None:
    admission, started = Admission(), list[str]()
    for kernel, host in (("a", "here"), ("b", "here"), ("c", "there"), ("d", "here")):
        admission.request(kernel, host=host, capacity=1, start=partial(started.append, kernel))
    assert started == ["a", "c"]
    admission.release("b")  # it no longer waits
    admission.release("a")
    assert started == ["a", "c", "d"]


NO_RELAY = """
import sys
if "-c" in sys.orig_argv:  # execnet's way to start a worker
    sys.modules["vm.controller.relay"] = None
"""


def test_relay_that_cannot_start_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_RELAY)
    (tmp_path / "k61").write_bytes(image("6.1.0"))
    done = run_pytest(tmp_path, ["--kernel", "./k61"], source=COMMON, variables={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.status == EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], done.output
    assert "its relay on the host died: " in done.kernel()["reason"]
    assert "vm.controller.relay" in done.kernel()["reason"]


FROM_ELSEWHERE = """
import sys
import xdist.plugin  # remembers sys.path as workers are to have it
sys.path.insert(0, {root!r})
import pytest
if {changed}:
    import vm.base.fingerprint
    vm.base.fingerprint.fingerprint = lambda: "as it was"
sys.exit(pytest.main(sys.argv[1:]))
"""


def run_from_elsewhere(directory: Path, *, changed: bool) -> Run:
    """Run with another installation of the project where workers look first."""
    other = directory / "other" / "vm"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('this is another installation of the project')")
    (directory / "k61").write_bytes(image("6.1.0"))
    return run_pytest(
        directory,
        ["--kernel", "./k61"],
        source=COMMON,
        variables={SUBSTITUTE: FAKE_VM, "PYTHONPATH": str(other.parent)},
        command=("-c", FROM_ELSEWHERE.format(root=str(ROOT), changed=changed)),
    )


def test_relay_and_guest_run_the_controller_s_code_and_no_other_installation_s(tmp_path: Path) -> None:
    done = run_from_elsewhere(tmp_path, changed=False)
    assert (done.status, done.cases()) == (0, {"test_first": "passed"}), done.output


def test_code_that_changed_during_a_run_is_refused_with_its_path(tmp_path: Path) -> None:
    done = run_from_elsewhere(tmp_path, changed=True)
    assert done.status == EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], done.output
    assert f"{ROOT}/vm is not what the run was started with" in done.kernel()["reason"]

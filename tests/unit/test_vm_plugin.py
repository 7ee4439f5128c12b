# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The plugin, xdist and relays as a user meets them; only the VM is a process of the host (fake_vm.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from fake_archive import image

from vm.machine import SUBSTITUTE

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FAKE_VM = Path(__file__).with_name("fake_vm.py")

CASES = """
import os, signal, time
from pathlib import Path

def log(text):
    Path(os.environ["REUSEPORT_KMSG"]).open("w").write(text + "\\n")

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Run:
    """A finished run and what it left."""

    def __init__(self, done: subprocess.CompletedProcess[str], directory: Path) -> None:
        self.status = done.returncode
        self.output = done.stdout + done.stderr
        self.directory = directory / "results" / "latest"

    @property
    def results(self) -> Any:
        return json.loads((self.directory / "results.json").read_text())

    @property
    def kernel(self) -> Any:
        (kernel,) = self.results["kernels"]
        return kernel

    @property
    def cases(self) -> dict[str, str]:
        return {case["id"].partition("::")[2]: case["outcome"] for case in self.kernel["cases"]}

    def case(self, name: str) -> Any:
        (case,) = [case for case in self.kernel["cases"] if case["id"].endswith(f"::{name}")]
        return case


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Return the function that runs `source` as cases in fake VMs, for kernels of these names."""
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\naddopts = ['-p', 'vm.plugin', '-p', 'no:cacheprovider']\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)

    def run(source: str, *arguments: str, kernels: tuple[str, ...] = ("k61",), wrong: str = "") -> Run:
        (tmp_path / "test_topic.py").write_text(CASES + source)
        for name in kernels:
            (tmp_path / name).write_bytes(image("6.1.0"))
        monkeypatch.setenv(SUBSTITUTE, f"{sys.executable} {FAKE_VM} {wrong}".strip())
        chosen = [word for name in kernels for word in ("--kernel", f"./{name}")]
        command = [sys.executable, "-m", "pytest", *chosen, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        return Run(done, tmp_path)

    return run


def test_results_of_an_ordinary_run(run: Callable[..., Run]) -> None:
    done = run(
        """
import pytest
def test_good(record_property): record_property("observed", {"member": 3})
def test_bad(): assert "member 4" == "member 3"
def test_skipped(): pytest.skip("no such thing here")
@pytest.mark.xfail(reason="a known bug", strict=True)
def test_known(): assert False
@pytest.mark.xfail(reason="a known bug", strict=True)
def test_gone(): pass
"""
    )
    assert done.status == 1, done.output
    assert done.cases == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_skipped": "skipped",
        "test_known": "xfailed",
        "test_gone": "xpassed",
    }
    assert done.case("test_good")["observed"] == {"member": 3}
    assert done.case("test_skipped")["reason"] == "no such thing here"
    assert "member 4" in done.case("test_bad")["reason"]
    assert (done.kernel["release"], done.kernel["outcome"], done.kernel["vms"]) == ("6.1.0-fake", "failed", 1)
    assert "2 failed, 1 passed, 1 skipped, 1 xfailed" in done.output.splitlines()[-1]
    junit = ElementTree.parse(done.directory / "junit.xml")
    assert {case.get("classname") for case in junit.iter("testcase")} == {"k61.test_topic"}
    assert [case.get("name") for case in junit.iter("testcase") if case.find("failure") is not None] == [
        "test_bad",
        "test_gone",
    ]
    assert "not ok 2 test_topic.py::test_bad" in (done.directory / "results.ktap").read_text()
    assert "begin test_topic.py::test_good" in (done.directory / "k61/console.log").read_text()


def test_everything_passed(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass")
    assert (done.status, done.results["exit"], done.results["outcome"]) == (0, 0, "passed"), done.output


def test_case_that_panics_fails_once_and_the_others_run_in_a_fresh_vm(run: Callable[..., Run]) -> None:
    done = run(
        """
def test_first(): pass
def test_panics():
    log("<0>[   12.000000] Kernel panic - not syncing: sysrq triggered crash")
    die()
def test_last(): assert os.environ["REUSEPORT_KERNEL"] == "k61"
"""
    )
    assert done.status == 1, done.output
    assert done.cases == {"test_first": "passed", "test_panics": "failed", "test_last": "passed"}
    assert done.case("test_panics")["reason"].startswith("Kernel panic - sysrq triggered crash")
    assert done.kernel["vms"] == 2
    assert done.output.count("begin test_topic.py::test_panics") == 1, "the console's last words are shown"
    assert "1 failed, 2 passed" in done.output.splitlines()[-1]


def test_vm_that_ends_without_a_word_is_lost(run: Callable[..., Run]) -> None:
    done = run("def test_dies(): die()\ndef test_last(): pass")
    assert done.cases == {"test_dies": "lost", "test_last": "passed"}
    assert (done.status, done.results["outcome"]) == (12, "lost or hung"), done.output


def test_last_case_takes_its_vm_down(run: Callable[..., Run]) -> None:
    """There is nothing left to boot another VM for."""
    done = run("def test_first(): pass\ndef test_dies(): die()")
    assert done.cases == {"test_first": "passed", "test_dies": "lost"}
    assert (done.status, done.kernel["vms"]) == (12, 1), done.output


def test_hung_case_is_ended_by_the_watchdog(run: Callable[..., Run]) -> None:
    done = run("def test_hangs(): time.sleep(600)\ndef test_last(): pass", "--vm-timeout", "2")
    assert done.cases == {"test_hangs": "hung", "test_last": "passed"}
    assert (done.status, done.results["outcome"]) == (12, "lost or hung"), done.output
    assert "no news" in done.case("test_hangs")["reason"]


def test_soft_lockup_is_a_hang(run: Callable[..., Run]) -> None:
    """Its panic is what the boot parameters make of a hang."""
    done = run("def test_hangs():\n log('[ 9.0] Kernel panic - not syncing: softlockup: hung tasks')\n die()")
    assert (done.status, done.cases) == (12, {"test_hangs": "hung"}), done.output


def test_splat_names_its_case(run: Callable[..., Run]) -> None:
    done = run(
        """
def test_first(): pass
def test_warns(): log("[ 33.0] WARNING: CPU: 0 PID: 7 at net/core/sock_reuseport.c:321 reuseport_add_sock+0x1/0x2")
def test_last(): pass
"""
    )
    assert done.cases == {"test_first": "passed", "test_warns": "splat", "test_last": "passed"}
    assert (done.status, done.results["outcome"]) == (11, "splat"), done.output
    (splat,) = done.kernel["splats"]
    assert (splat["kind"], splat["case"]) == ("WARNING", "test_topic.py::test_warns")
    assert "3 passed, 1 error" in done.output.splitlines()[-1]


def test_console_without_the_marks_is_not_taken_for_a_clean_one(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", wrong="mute")
    assert (done.status, done.results["outcome"]) == (13, "infrastructure"), done.output
    assert "could not be scanned for splats" in done.kernel["reason"]


def test_missing_feature_has_an_exit_status_of_its_own(run: Callable[..., Run]) -> None:
    done = run("def test_gated(record_property):\n record_property('missing_feature', 'migrate')\n assert False")
    assert (done.status, done.cases) == (10, {"test_gated": "feature missing"}), done.output
    assert done.case("test_gated")["missing_feature"] == "migrate"


def test_kernel_that_never_boots_is_shown_with_its_console(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", wrong="dies")
    assert (done.status, done.results["outcome"]) == (13, "infrastructure"), done.output
    assert "Unable to mount root fs" in done.output
    assert "no tests ran" not in done.output


def test_kernel_that_boots_for_ever_is_given_up(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", "--vm-timeout", "1", wrong="silent")
    assert (done.status, done.results["outcome"]) == (13, "infrastructure"), done.output
    assert "did not come up in time" in done.output


def test_kernel_that_dies_at_every_case_ends(run: Callable[..., Run]) -> None:
    done = run("import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_dies(n): die()")
    assert list(done.cases.values()) == ["lost"] * 4 + ["not run"] * 5
    assert (done.status, done.kernel["vms"]) == (12, 4), done.output


def test_worker_that_cannot_import_its_cases(run: Callable[..., Run]) -> None:
    done = run("raise RuntimeError('not importable')")
    assert done.status == 1, done.output
    assert "not importable" in done.output


def test_death_while_collecting_is_not_tried_for_ever(run: Callable[..., Run]) -> None:
    done = run("die()")
    assert (done.status, done.kernel["vms"]) == (12, 4), done.output


def test_two_kernels_have_a_worker_each(run: Callable[..., Run]) -> None:
    done = run(
        """
def test_kernel(): assert os.environ["REUSEPORT_KERNEL"] == "k61"
def test_good(): pass
""",
        kernels=("k61", "k62"),
    )
    assert done.status == 1, done.output
    first, second = done.results["kernels"]
    assert [case["outcome"] for case in first["cases"]] == ["passed", "passed"]
    assert [case["outcome"] for case in second["cases"]] == ["failed", "passed"]
    assert "test_kernel: passed on k61, failed on k62" in done.output
    assert "1 failed, 3 passed" in done.output.splitlines()[-1]


def test_one_vm_at_a_time(run: Callable[..., Run]) -> None:
    """With fewer slots than kernels the second boots when the first has ended."""
    done = run(
        """
def test_alone():
    lock = Path("lock")
    lock.mkdir()
    time.sleep(0.3)
    lock.rmdir()
""",
        "--vms",
        "1",
        kernels=("k61", "k62"),
    )
    assert done.status == 0, done.output


def test_kernel_given_twice_runs_once(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", "--kernel", "./k61")
    assert (done.status, len(done.results["kernels"])) == (0, 1), done.output


def test_unknown_kernel_is_a_usage_error(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", "--kernel", "9.99")
    assert done.status == pytest.ExitCode.USAGE_ERROR, done.output
    assert "9.99" in done.output
    assert "6.1" in done.output, "the names there are"
    assert not done.directory.exists()


@pytest.mark.parametrize("option", [["-n", "2"], ["--dist", "each"], ["--tx", "popen"], ["--vms", "0"]])
def test_options_that_do_not_go_with_kernels(run: Callable[..., Run], option: list[str]) -> None:
    assert run("", *option).status == pytest.ExitCode.USAGE_ERROR


def test_no_case_selected(run: Callable[..., Run]) -> None:
    done = run("def test_good(): pass", "-k", "nothing")
    assert done.status == pytest.ExitCode.NO_TESTS_COLLECTED, done.output


def test_first_failure_ends_the_run(run: Callable[..., Run]) -> None:
    done = run("def test_bad(): assert False\ndef test_good(): pass", "-x")
    assert done.cases == {"test_bad": "failed", "test_good": "not run"}

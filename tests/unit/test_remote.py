# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels on other machines (--on), as a user meets them; see other_machines.py for what the machines are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from other_machines import PROJECT, add_kernels, clone, reachable
from runs import Run, environment, foreground

from vm.base.errors import RemoteError, StoreError
from vm.remote.hosts import HERE, Host, assign, case_paths, read_host, translate
from vm.remote.ssh import SSH, Connection
from vm.remote.transfer import unpack
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = """
import os
from pathlib import Path

def test_where(record_property, pytestconfig):
    path = Path(pytestconfig.workerinput["objects"]["reference"])
    assert path.read_bytes() == b"\\x7fELF"
    record_property("observed", [os.getcwd(), str(pytestconfig.rootpath), os.environ["HOME"], str(path)])

def test_bad():
    assert os.environ["REUSEPORT_KERNEL"] != "on-good"
"""
SLOW = """
import os, time

def test_first(): pass
def test_slow(): time.sleep(600 if os.environ["REUSEPORT_KERNEL"] == "on-good" else 0)
def test_last(): pass
"""

MACHINES = {
    # kernel: --on
    "on-good": "good",
    "on-refusing": "refusing",
    "on-nowhere": "someone@nowhere",
    "on-lost": "good:~/elsewhere",
    "on-other": "good:",
    "on-bare": "bare",
    "on-older": "older",
    "on-chatty": "chatty",
    "on-this": HERE,
    "on-good-again": "good",
}


def machines_in(directory: Path, source: str) -> Path:
    """Make the machines `here`, `good`, `bare`, `older` and `chatty` in `directory`; return it."""
    for name in ("here", "good", "bare", "older", "chatty"):
        project = clone(directory / name, source, set_up=name != "bare")
        add_kernels(project, *MACHINES, "silent")
        if name == "older":
            with (project / "vm/controller/protocol.py").open("a") as file:
                file.write("# as it was\n")
    return directory


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> tuple[Run, Path]:
    """Return a run on machines of which few are well, and where they are; the workers of a test run share it."""
    directory = tmp_path_factory.getbasetemp().parent / f"machines-{testrun_uid}"
    with FileLock(f"{directory}.lock"):
        saved = directory / "run.json"
        if not saved.exists():
            words = [word for kernel, on in MACHINES.items() for word in ("--kernel", f"./{kernel}", "--on", on)]
            with reachable(machines_in(directory, CASES)) as variables:
                done = subprocess.run(
                    # An absolute path below the project, as tox has it.
                    [sys.executable, "-m", "pytest", f"--rootdir={directory / 'here' / PROJECT}", *words],
                    cwd=directory / "here" / PROJECT,
                    env=variables,
                    capture_output=True,
                    text=True,
                    timeout=90,
                    check=False,
                )
            saved.write_text(json.dumps([done.returncode, done.stdout + done.stderr]))
        status, output = json.loads(saved.read_text())
    return Run(status, output, directory / "here" / PROJECT / "results/latest"), directory


def test_kernel_runs_on_its_machine(many: tuple[Run, Path]) -> None:
    run, machines = many
    for kernel, name in (("on-good", "good"), ("on-good-again", "good"), ("on-this", "here")):
        directory, root, home, path = run.case("test_where", kernel=kernel)["observed"]
        assert {directory, root} == {str(machines / name / PROJECT)}, kernel
        assert home == str(machines / name)
        if name == "good":
            assert Path(path).parent == machines / "good/cache/reuseport-harness/sent", "the bytes travelled"
    assert [run.kernel(name)["machine"] for name in ("on-good", "on-this")] == ["good", ""]


def test_results_and_console_come_back(many: tuple[Run, Path]) -> None:
    run, _ = many
    assert run.cases("on-good") == {"test_where": "passed", "test_bad": "failed"}
    assert run.cases("on-good-again") == run.cases("on-this") == {"test_where": "passed", "test_bad": "passed"}
    for kernel in ("on-good", "on-this"):
        assert "begin test_topic.py::test_bad" in (run.directory / kernel / "console.log").read_text()
    assert run.kernel("on-good")["release"] == "6.1.0-fake"


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (
            "on-refusing",
            r"refusing: ssh: connect to host \S+ port \d+: Connection refused \('ssh refusing true' has to",
        ),
        ("on-nowhere", r"someone@nowhere: ssh: Could not resolve hostname nowhere.*\('ssh someone@nowhere true' has"),
        ("on-lost", r"good:~/elsewhere: there is no directory ~/elsewhere \(clone the project there, or say where"),
        ("on-bare", rf"bare: ~/{PROJECT} has no .venv \(run ./bootstrap there: ssh bare 'cd {PROJECT} && ./bootst"),
        (
            "on-older",
            r"older: the project there is at version \S+, here at \S+; not the same: vm/controller/protocol.py \(make",
        ),
        ("on-chatty", r"chatty: its shell prints something of its own before it runs a command \(have ~/.bashrc"),
    ],
    ids=["refusing", "nowhere", "no clone", "not set up", "another version", "chatty"],
)
def test_machine_that_cannot_be_used_is_one_line_with_a_remedy(many: tuple[Run, Path], kernel: str, says: str) -> None:
    run, _ = many
    assert (run.kernel(kernel)["outcome"], run.kernel(kernel)["cases"]) == ("infrastructure", [])
    assert re.match(says, run.kernel(kernel)["reason"]), run.kernel(kernel)["reason"]
    assert run.output.count(f"ERROR {kernel} could not run: {run.kernel(kernel)['reason']}") == 1


def test_failed_case_outranks_machines_out_of_reach(many: tuple[Run, Path]) -> None:
    run, _ = many
    assert run.status == 1, run.output
    assert "INTERNALERROR" not in run.output
    assert "Warning" not in run.output


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Return a run in the middle of a case on another machine, where another kernel boots; and where the machines are.

    The run is the leader of a process group, as in a terminal.
    """
    machines_in(tmp_path, SLOW)
    words = [("on-good", "good"), ("silent", "good"), ("on-this", HERE)]
    options = [option for kernel, on in words for option in ("--kernel", f"./{kernel}", "--on", on)]
    project = tmp_path / "here" / PROJECT
    with reachable(tmp_path) as variables:
        with foreground():
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, "--vms", "3"],
                cwd=project,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        try:
            wait_until(lambda: process.poll() is not None or is_on_its_way(project))
            assert process.poll() is None, process.communicate()[0]
            yield process, tmp_path
        finally:
            process.kill()
            process.communicate()


def is_on_its_way(project: Path) -> bool:
    """Return whether the slow case has begun, the kernel that says nothing boots, and the one here is through."""
    awaited = {
        "on-good": "begin test_topic.py::test_slow",
        "silent": "Linux version",
        "on-this": "reuseport-harness: end",
    }
    consoles = {path.parent.name: path.read_text() for path in project.glob("results/*/*/console.log")}
    return all(words in consoles.get(kernel, "") for kernel, words in awaited.items())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for as long as a machine may need that runs much else meanwhile."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "waited for 300 seconds in vain"
        time.sleep(0.05)


def test_ctrl_c_leaves_nothing_running_there(running: tuple[subprocess.Popen[str], Path]) -> None:
    run, machines = running
    assert processes_in(machines / "good")
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert processes_in(machines) == []


def test_death_of_the_run_leaves_nothing_running_there(running: tuple[subprocess.Popen[str], Path]) -> None:
    run, machines = running
    assert processes_in(machines / "good")
    run.kill()
    wait_until(lambda: processes_in(machines) == [])


def test_connection_that_breaks_ends_the_kernels_there_alone(running: tuple[subprocess.Popen[str], Path]) -> None:
    process, machines = running
    for child in children_of(process.pid):
        if (Path(f"/proc/{child}/comm").read_text() == "ssh\n") or child_is_in(child, machines / "good"):
            os.kill(child, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    run = Run(process.returncode, output, machines / "here" / PROJECT / "results/latest")
    assert run.status == EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], output
    assert run.cases("on-good") == {"test_first": "passed", "test_slow": "not run", "test_last": "not run"}
    assert run.cases("on-this") == {"test_first": "passed", "test_slow": "passed", "test_last": "passed"}
    assert {kernel["name"] for kernel in run.results["kernels"] if "the connection broke" in kernel["reason"]} == {
        "on-good",
        "silent",
    }
    wait_until(lambda: processes_in(machines) == [])


def children_of(process: int) -> list[int]:
    return [
        int(pid) for task in Path(f"/proc/{process}/task").iterdir() for pid in (task / "children").read_text().split()
    ]


def child_is_in(process: int, directory: Path) -> bool:
    return Path(f"/proc/{process}/cwd").readlink().is_relative_to(directory)


def processes_in(directory: Path) -> list[str]:
    """Return the commands that run below `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--on", "ssh://big"], "takes [USER@]HOST[:DIRECTORY]"),
        (["--on", "big", "../other.py"], "../other.py is outside"),
    ],
)
def test_mistakes_are_usage_errors(tmp_path: Path, options: list[str], says: str) -> None:
    project = clone(tmp_path, CASES)
    add_kernels(project, "k61")
    (project.parent / "other.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--kernel", "./k61", *options],
        cwd=project,
        env=environment(tmp_path, PYTHONPATH=str(project)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert says in done.stderr
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("word", "destination", "directory"),
    [
        ("big", "big", "src/project"),
        ("me@big", "me@big", "src/project"),
        ("big:", "big", "src/project"),
        ("big:/srv/project", "big", "/srv/project"),
        ("big:elsewhere", "big", "elsewhere"),
        ("big:~/elsewhere", "big", "elsewhere"),
        ("me@[2001:db8::1]:~", "me@2001:db8::1", "."),
    ],
)
def test_forms_of_a_machine_s_name(word: str, destination: str, directory: str) -> None:
    found = read_host(word, root=Path("/home/me/src/project"), home=Path("/home/me"))
    assert found == Host(word=word, destination=destination, directory=directory)


def test_project_outside_the_home_directory_is_at_the_same_path() -> None:
    found = read_host("big", root=Path("/srv/project"), home=Path("/home/me"))
    assert found == Host(word="big", destination="big", directory="/srv/project")
    assert read_host(HERE, root=Path("/srv/project"), home=Path("/home/me")) is None


@pytest.mark.parametrize("word", ["", "ssh://big:22", "-oProxyCommand=x", "big/project", "a b", "@big", ":/srv"])
def test_words_that_name_no_machine(word: str) -> None:
    with pytest.raises(ValueError, match=r"takes .*HOST"):
        read_host(word, root=Path("/srv/project"), home=Path("/home/me"))


@pytest.mark.parametrize(
    ("command", "says"), [("ssh 'x", "big: REUSEPORT_SSH is no command: "), ("/nowhere/ssh", "/nowhere/ssh cannot be")]
)
def test_ssh_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch, command: str, says: str) -> None:
    monkeypatch.setenv(SSH, command)
    with pytest.raises(RemoteError, match=says):
        Connection(Host(word="big", destination="big", directory="."), name="on0")


def test_hosts_get_kernels_in_turn() -> None:
    one, other = (Host(word=word, destination=word, directory=".") for word in ("one", "other"))
    assert assign(["a", "b", "c"], [one, other]) == {"a": one, "b": other, "c": one}
    assert assign(["a", "b"], []) == {"a": None, "b": None}
    assert assign(["a"], [one, other]) == {"a": one}


def test_paths_below_the_project_are_translated() -> None:
    given = ["-c", "/a/b/pyproject.toml", "--rootdir=/a/b", "/a/bc", "-k", "x /a/b", "cases"]
    assert translate(given, root="/a/b", directory="/c") == [
        "-c",
        "/c/pyproject.toml",
        "--rootdir=/c",
        "/a/bc",
        "-k",
        "x /a/b",
        "cases",
    ]


def test_cases_outside_the_project_are_refused(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for name in ("project/mine.py", "other.py"):
        (tmp_path / name).touch()
    root = tmp_path / "project"
    assert case_paths([f"{root}/mine.py::test_x[a::b]", f"{root}/nothing.py"], root=root) == ["mine.py"]
    with pytest.raises(ValueError, match="outside"):
        case_paths([str(tmp_path / "other.py")], root=root)


def test_files_with_the_same_name_stay_apart(tmp_path: Path) -> None:
    packed = {"one": ("same.bpf.o", b"1"), "other": ("same.bpf.o", b"2"), "again": ("same.bpf.o", b"1")}
    for _ in range(2):
        paths = unpack(packed, tmp_path / "sent")
        assert {name: Path(path).read_bytes() for name, path in paths.items()} == {
            "one": b"1",
            "other": b"2",
            "again": b"1",
        }
        Path(paths["other"]).write_bytes(b"")  # the second time it is there, and damaged
    assert len(list((tmp_path / "sent").iterdir())) == 2


def test_full_or_forbidden_disk_is_explained(tmp_path: Path) -> None:
    (tmp_path / "sent").touch()
    with pytest.raises(StoreError, match="sent"):
        unpack({"one": ("one.bpf.o", b"1")}, tmp_path / "sent")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pure parts of `tox -e fresh`: which commands are run, with which settings, and what is told of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from runs import foreground

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fresh import own_kernel  # noqa: E402
from fresh.__main__ import why_not  # noqa: E402
from fresh.command import Done, last_line  # noqa: E402
from fresh.network import (  # noqa: E402
    CERTIFICATES,
    Network,
    apt_settings,
    certificates,
    pip_settings,
    variables,
)
from fresh.report import Outcome, RootResult, StepResult, table, write  # noqa: E402
from fresh.root import DISTRIBUTIONS, Package, debootstrap_command, parse_packages, remove  # noqa: E402
from fresh.steps import readme_commands, steps  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fresh.steps import Step

PIP = """\
:env:.index-url='http://pip.test/simple'
global.cert='/a/file.pem'
global.extra-index-url='file:///opt/wheels http://other.test/simple'
global.find-links='/opt/wheels'
global.index-url='http://elsewhere.test/simple'
global.no-color='true'
"""
APT = """\
APT::Architecture "amd64";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3142";
Acquire::http::Proxy-Auto-Detect "";
Acquire::https::CaInfo "/a/file.pem";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Packages::Optional "0";
"""


def network(*, apt: Sequence[str] = (), bundle: Path | None = None) -> Network:
    return Network(
        mirror="http://mirror.test/debian",
        security="http://mirror.test/security",
        apt=tuple(apt),
        variables={},
        certificates=bundle,
    )


def readme_steps() -> tuple[Step, ...]:
    return steps(readme_commands((ROOT / "README.md").read_text()))


def result(*outcomes: Outcome, error: str = "") -> RootResult:
    """Return the result of a root, a step for each outcome."""
    results = [
        StepResult(step, outcome=outcome, seconds=61, packages=(Package(name="git", version="1:2", kilobytes=2000),))
        for step, outcome in zip(readme_steps(), outcomes, strict=False)
    ]
    return RootResult(DISTRIBUTIONS[0], seconds=20, packages=(), disk=10**9, error=error, steps=results)


def test_commands_are_those_of_the_first_block() -> None:
    readme = "# Title\n```sh\n./one  # why\n\n./two 'a b'\n```\n```\n./three\n```\n"
    assert readme_commands(readme) == [("./one",), ("./two", "a b")]
    assert readme_commands("no code") == []


def test_commands_are_run_unchanged_by_root_and_the_first_by_an_ordinary_user() -> None:
    tried = [(step.typed, step.user) for step in readme_steps()]
    assert tried == [
        ("./bootstrap tox -e vm", "root"),
        ("./bootstrap tox", "root"),
        ("./bootstrap tox -e vm", "newcomer"),
        ("./bootstrap tox -e vm -- --kernel running", "newcomer"),
    ]


def test_every_distribution_is_one_that_the_readme_names() -> None:
    """The README says "Debian 12 or newer"."""
    readme = (ROOT / "README.md").read_text()
    assert [entry.name for entry in DISTRIBUTIONS] == ["debian-12", "debian-13"]
    assert "Debian 12 or newer" in readme


def test_pip_is_told_of_addresses_and_not_of_directories_here() -> None:
    settings = pip_settings(PIP)
    assert settings["index-url"] == "http://pip.test/simple"  # the environment has precedence over files
    told = {name: value for name, value in variables(settings, None).items() if name.startswith("PIP_")}
    assert told == {"PIP_INDEX_URL": "http://pip.test/simple", "PIP_EXTRA_INDEX_URL": "http://other.test/simple"}


def test_proxies_and_certificates_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:1")
    told = variables({}, Path("/a/file.pem"))
    assert told["https_proxy"] == "http://proxy.test:1"
    assert told["PIP_CERT"] == told["SSL_CERT_FILE"] == CERTIFICATES


def test_apt_is_told_how_a_mirror_is_reached_and_nothing_else() -> None:
    assert apt_settings(APT) == (
        'Acquire::http::Proxy "http://proxy.test:3142";',
        'Acquire::https::CaInfo "/a/file.pem";',
        'Acquire::Check-Valid-Until "false";',
    )


def test_certificates_are_those_that_the_machine_was_told_to_use(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    lines = (f'Acquire::https::CaInfo "{bundle}";',)
    assert certificates({}, lines, {}) is None  # it is not there
    bundle.touch()
    assert certificates({}, lines, {}) == bundle
    assert certificates({"cert": str(bundle)}, (), {}) == bundle
    assert certificates({}, (), {"SSL_CERT_FILE": str(bundle)}) == bundle
    assert certificates({}, (), {}) is None


def test_a_root_names_the_certificates_where_it_has_them(tmp_path: Path) -> None:
    given = apt_settings(APT)
    assert "CaInfo" not in network(apt=given).apt_in_root
    with_bundle = network(apt=given, bundle=tmp_path).apt_in_root
    assert f'Acquire::https::CaInfo "{CERTIFICATES}";\n' in with_bundle
    assert "/a/file.pem" not in with_bundle


def test_a_root_is_installed_from_all_three_suites_of_its_release() -> None:
    command = debootstrap_command(DISTRIBUTIONS[1], Path("/r"), network(apt=['Acquire::Retries "3";']))
    assert command[-5:] == [
        "trixie",
        "/r",
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian trixie-updates main",
        "deb http://mirror.test/security trixie-security main",
    ]
    assert '--aptopt=Acquire::Retries "3";' in command
    assert "--include=git,python3" in command


def test_packages_that_are_removed_or_have_no_size_count_for_nothing() -> None:
    listed = "ii \tgit\t1:2.39\t40000\nrc \told\t1\t10\nii \tempty\t1\t\n"
    assert parse_packages(listed) == {
        Package(name="git", version="1:2.39", kilobytes=40000),
        Package(name="empty", version="1", kilobytes=0),
    }


@pytest.mark.parametrize(
    ("done", "outcome", "described"),
    [
        (Done(status=0, seconds=1, left=()), Outcome.PASSED, "passed"),
        (Done(status=13, seconds=1, left=()), Outcome.FAILED, "failed, status 13"),
        (Done(status=0, seconds=1, left=("sleep 600",)), Outcome.FAILED, "failed, left running: sleep 600"),
    ],
)
def test_a_step_passes_with_status_0_and_nothing_left_running(done: Done, outcome: Outcome, described: str) -> None:
    step = StepResult.of(readme_steps()[0], done, log=Path("log"), packages=(), disk=0)
    assert (step.outcome, step.described) == (outcome, described)


def test_a_root_passes_when_there_was_one_and_all_steps_passed() -> None:
    assert result(Outcome.PASSED, Outcome.PASSED).passed
    assert not result(Outcome.PASSED, Outcome.NOT_RUN).passed
    assert not result(Outcome.PASSED, error="no mirror").passed


def test_the_table_and_the_file_tell_the_same(tmp_path: Path) -> None:
    found = [result(Outcome.PASSED, Outcome.FAILED)]
    shown = Console(file=io.StringIO(), width=140)
    shown.print(table(found, width=140))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "./bootstrap tox -e vm" in text
    assert "1:01" in text
    content = json.loads(write(tmp_path, found, {"commit": "abc"}).read_text())
    assert content["commit"] == "abc"
    (root,) = content["roots"]
    assert root["passed"] is False
    assert [step["outcome"] for step in root["steps"]] == ["passed", "failed"]
    assert root["steps"][0]["packages"] == {"number": 1, "bytes": 2048000, "versions": {"git": "1:2"}}


def test_a_narrow_terminal_has_the_commands_and_outcomes_in_whole_words() -> None:
    shown = Console(file=io.StringIO(), width=80)
    shown.print(table([result(Outcome.PASSED, Outcome.FAILED)], width=80))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "./bootstrap tox -e vm" in text
    assert "failed" in text
    assert "installed" not in text


def test_the_newest_line_is_the_last_one_with_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo 10 %\rtwo 20 %\x1b[K\n\n")
    assert last_line(log) == "two 20 %[K"
    log.write_bytes(b"")
    assert last_line(log) == ""


def test_a_root_has_one_kernel_to_take_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    with pytest.raises(own_kernel.OwnKernelError, match="holds none"):
        own_kernel.installed_release(tmp_path)
    (tmp_path / "boot/vmlinuz-6.1.0-1-amd64").touch()
    assert own_kernel.installed_release(tmp_path) == "6.1.0-1-amd64"
    (tmp_path / "boot/vmlinuz-6.1.0-2-amd64").touch()
    with pytest.raises(own_kernel.OwnKernelError, match=r"holds vmlinuz-.*-1-amd64, vmlinuz-.*-2-amd64"):
        own_kernel.installed_release(tmp_path)


def test_what_is_mounted_beneath_a_root_is_not_removed() -> None:
    """/proc is mounted wherever this runs."""
    with pytest.raises(OSError, match=r"mounts beneath it: .*/proc"):
        remove(Path("/"))


STAND_IN = """#!/bin/sh
# Be mmdebstrap that gets as far as a mounted /proc, and then {then}.
for root; do case $root in */root) break ;; esac; done
mkdir -p "$root/proc" && mount -t proc proc "$root/proc" && echo "$root mounted"
{then}
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces and mounts, which takes root")


def fresh(directory: Path, *, then: str) -> subprocess.Popen[str]:
    """Start the command with a stand-in for mmdebstrap, roots in `directory`/roots."""
    for name in ("bin", "roots"):
        (directory / name).mkdir()
    (directory / "bin/mmdebstrap").write_text(STAND_IN.format(then=then))
    (directory / "bin/mmdebstrap").chmod(0o755)
    words = ["--root", "debian-12", "--directory", f"{directory}/roots", "--mirror", "http://127.0.0.1:9/debian"]
    with foreground():
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fresh", *words],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )


def logs() -> set[Path]:
    return set((ROOT / "results").glob("fresh-*"))


@needs_root
def test_a_root_that_cannot_be_made_is_reported_and_removed(tmp_path: Path) -> None:
    before = logs()
    with fresh(tmp_path, then="exit 25") as run:
        output = run.communicate()[0]
    assert run.returncode == 1, output
    assert "mmdebstrap ended with status 25" in " ".join(output.split())
    assert list((tmp_path / "roots").iterdir()) == []
    (new,) = logs() - before
    (root,) = json.loads((new / "fresh.json").read_text())["roots"]
    assert {step["outcome"] for step in root["steps"]} == {"not run"}
    shutil.rmtree(new)


@needs_root
def test_ctrl_c_leaves_no_process_mount_or_directory(tmp_path: Path) -> None:
    before = logs()
    with fresh(tmp_path, then="exec sleep 600") as run:
        while not any("mounted" in log.read_text() for new in logs() - before for log in new.glob("*-root.log")):
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        output = run.communicate()[0]
    assert run.returncode == 130, output
    assert list((tmp_path / "roots").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert not any(str(tmp_path).encode() in command for command in commands)
    for new in logs() - before:
        shutil.rmtree(new)


def test_a_machine_that_cannot_make_roots_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "run this as root" in (why_not(tmp_path) or "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = why_not(tmp_path) or ""
    assert "mmdebstrap" in reason
    assert "./bootstrap tox -e fresh" in reason

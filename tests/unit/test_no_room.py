# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Disks that are full or take nothing: said in a line with its remedy, nothing half-written, and the status says so."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from runs import CONFIGURATION, FAKE_VM, environment
from small_archive import SmallArchive, one_kernel, signing_key, small_archive
from stand_in_qemu import qemu
from test_archive import needs_apt

from vm.boot.acceleration import SUBSTITUTE
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["one_kernel", "signing_key", "small_archive"]  # fixtures


CASES = """
import os
from pathlib import Path

def test_first(): pass

def test_talkative():
    if "REUSEPORT_KMSG" in os.environ:
        Path(os.environ["REUSEPORT_KMSG"]).open("w").write("all is well\\n" * int(os.environ["LINES"]))

def test_third(): assert "WRONG" not in os.environ
"""
IN_A_VM, HERE = ("--kernel", "./k61"), ("-p", "harness.plugin", "-p", "harness.plugins.own_program", "--where-possible")
READ_ONLY = "mount -t tmpfs -o ro none results"
INFRASTRUCTURE, FAILED = EXIT_STATUS[KernelOutcome.INFRASTRUCTURE], EXIT_STATUS[KernelOutcome.FAILED]


def may_mount() -> bool:
    """Return whether a process here may have mounts of its own."""
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_mount(), reason="this user may not mount anything in a namespace of its own")


def run(directory: Path, setup: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the cases where the shell's `setup` was done before; return the status and what was said and is left."""
    (directory / "pyproject.toml").write_text(CONFIGURATION)
    (directory / "test_topic.py").write_text(CASES)
    (directory / "k61").write_bytes(image("6.1.0"))
    (directory / "results").mkdir(exist_ok=True)
    script = f'{setup}; "$@"; status=$?; find results -type f; exit $status'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-m", "pytest", *arguments],
        cwd=directory,
        env=environment(directory, **{SUBSTITUTE: FAKE_VM, "LINES": "1", **variables}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("where", "setup", "said"),
    [
        (IN_A_VM, READ_ONLY, "Read-only file system. To mend it, give this user the directory"),
        (HERE, READ_ONLY, "Read-only file system. To mend it, give this user the directory"),
        (IN_A_VM, "mount -t tmpfs -o nr_inodes=1 none results", "No space left on device. To mend it, free some space"),
        (IN_A_VM, "rmdir results; touch results", "File exists. To mend it, results/ has to be a directory"),
    ],
)
def test_unwritable_results_directory_ends_the_run_before_a_kernel_boots(
    tmp_path: Path, where: tuple[str, ...], setup: str, said: str
) -> None:
    status, output = run(tmp_path, setup, *where)
    assert status == INFRASTRUCTURE, output
    assert f"results cannot be written: {tmp_path}/results" in output
    assert said in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert "booting" not in output


@pytest.mark.parametrize(
    ("where", "variables", "status"),
    [(IN_A_VM, {}, INFRASTRUCTURE), (IN_A_VM, {"WRONG": "1"}, FAILED), (HERE, {}, INFRASTRUCTURE)],
)
def test_results_that_cannot_be_written_are_reported_after_the_summary(
    tmp_path: Path, where: tuple[str, ...], variables: dict[str, str], status: int
) -> None:
    """Room for the console's first page, not for what is made of the run. A failed case outranks it."""
    ended, output = run(tmp_path, "mount -t tmpfs -o size=4k none results", *where, **variables)
    assert ended == status, output
    assert "No space left on device. To mend it, free some space" in output
    assert "Traceback (most recent call last)" not in output
    assert "results/latest" not in output
    hidden = [line for line in output.splitlines() if line.startswith("results/") and "/." in line]
    assert [line for line in hidden if not line.endswith(".lock")] == [], "half a file"


def test_incomplete_console_is_not_clean(tmp_path: Path) -> None:
    status, output = run(tmp_path, "mount -t tmpfs -o size=64k none results", *IN_A_VM, LINES="20000")
    assert status == INFRASTRUCTURE, output
    assert "its console could not be scanned for splats: results cannot be written" in output
    assert "3 passed" in output


def test_unwritable_cache_is_named_with_its_remedy(tmp_path: Path) -> None:
    """Neither a kernel nor a compiled program can be kept; what is there already needs no room."""
    (tmp_path / "cache").mkdir()
    read_only = "mount -t tmpfs -o ro none cache"
    status, output = run(tmp_path, read_only, "--kernel", "6.1", "--mirror", "http://127.0.0.1:9/debian")
    assert status == INFRASTRUCTURE, output
    assert "cannot be used (Read-only file system): give this user the directory" in output
    assert "or point XDG_CACHE_HOME at another directory" in output
    status, output = run(tmp_path, read_only, *IN_A_VM)
    assert status == 0, output


@needs_apt
@pytest.mark.parametrize("room", ["12k", "60k", "80k"])
def test_cache_that_is_full_is_named_with_its_remedy(small_archive: SmallArchive, tmp_path: Path, room: str) -> None:
    """In apt's lists, its downloads, the kernel or its index; with more room the next run continues from there."""
    (tmp_path / "cache").mkdir()
    again = "mount -o remount,size=50m cache; find cache -name '.staging*' -o -name '*.tmp'"
    first = f"mount -t tmpfs -o size={room} none cache; {{quoted}}; echo status $?; {again}"
    command = f"{sys.executable} -m pytest {' '.join(small_archive.kernel)}"
    variables = small_archive.variables
    status, output = run(tmp_path, first.format(quoted=command), *small_archive.kernel, **variables)
    failed, _, mended = output.partition("status ")
    assert mended.startswith(f"{INFRASTRUCTURE}\n"), output
    assert "no space left" in failed
    assert "or point XDG_CACHE_HOME at another directory" in failed
    assert "Traceback" not in output
    assert (status, "3 passed" in mended) == (0, True), output


def test_temporary_directory_that_is_full_is_named_with_its_remedy(tmp_path: Path) -> None:
    """The initramfs needs room; without any for bytecode a guest imports from files."""
    (tmp_path / "full").mkdir()
    full, variables = "mount -t tmpfs -o size=64k none full", {"TMPDIR": str(tmp_path / "full")}
    new = qemu(tmp_path / "bin", "echo QEMU emulator version 9.0.0")
    path = f"{new}:{os.environ['PATH']}"
    status, output = run(tmp_path, full, *IN_A_VM, **variables, **{SUBSTITUTE: "", "PATH": path})
    assert status == INFRASTRUCTURE, output
    assert f"no room for k61's initramfs in {tmp_path}/full (TMPDIR names another directory)" in output
    status, output = run(tmp_path, full, *IN_A_VM, **variables, PYTHONDONTWRITEBYTECODE="")
    assert status == 0, output

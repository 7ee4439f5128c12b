# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A machine that cannot boot a VM says so, with the remedy, before anything is fetched or booted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from runs import run_pytest
from small_archive import SmallArchive, one_kernel, signing_key, small_archive
from stand_in_qemu import qemu
from test_no_room import CASES, may_mount, run

from vm.__main__ import main
from vm.base.memory import available
from vm.boot.acceleration import SUBSTITUTE
from vm.boot.qemu import QEMU, find_qemu
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["one_kernel", "signing_key", "small_archive"]  # fixtures

INFRASTRUCTURE = EXIT_STATUS[KernelOutcome.INFRASTRUCTURE]

needs_mounts = pytest.mark.skipif(not may_mount(), reason="this user may not mount anything in a namespace of its own")


OLD = "echo 'QEMU emulator version 5.1.0 (Debian 1:5.1)'"
NEW = "echo 'QEMU emulator version 5.2.0'"
BROKEN = "echo 'error while loading shared libraries: libslirp.so.0' >&2; exit 127"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (OLD, f"{QEMU} is QEMU 5.1, and 5.2 is the oldest that can boot a VM here: upgrade it, or put a newer"),
        (BROKEN, "does not tell its version but says: error while loading shared libraries: libslirp.so.0. Install"),
    ],
)
def test_unusable_qemu_is_refused_before_a_kernel_is_fetched(
    small_archive: SmallArchive, tmp_path: Path, script: str, said: str
) -> None:
    path = f"{qemu(tmp_path / 'bin', script)}:/usr/bin:/bin"
    variables = {**small_archive.variables, SUBSTITUTE: "", "PATH": path}
    done = run_pytest(tmp_path, small_archive.kernel, source=CASES, variables=variables)
    assert done.status == INFRASTRUCTURE, done.output
    assert said in done.kernel()["reason"]
    assert not small_archive.cache.exists()


@needs_mounts
def test_missing_qemu_is_reported_before_a_kernel_is_fetched(tmp_path: Path) -> None:
    there = shutil.which(QEMU)
    hidden = f"mount --bind /dev/null {there}" if there else "true"
    status, output = run(tmp_path, hidden, "--kernel", "6.1", **{SUBSTITUTE: ""})
    assert status == INFRASTRUCTURE, output
    assert f"{QEMU} is not installed: install the package qemu-system-x86, or run ./bootstrap" in output
    assert not (tmp_path / "cache").exists()


def test_command_refuses_an_unusable_qemu_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(qemu(tmp_path / "bin", OLD)), prepend=":")
    monkeypatch.delenv(SUBSTITUTE, raising=False)
    find_qemu.cache_clear()
    try:
        assert main(["run", "6.1", "--", "true"]) == INFRASTRUCTURE
    finally:
        find_qemu.cache_clear()
    assert "is QEMU 5.1, and 5.2 is the oldest" in capsys.readouterr().err


@needs_mounts
@pytest.mark.parametrize(("free", "swap", "refused"), [(200, 0, True), (200, 250, True), (200, 400, False)])
def test_too_little_memory_is_reported_before_the_boot(tmp_path: Path, free: int, swap: int, refused: bool) -> None:
    (tmp_path / "meminfo").write_text(f"MemAvailable: {free * 1024} kB\nSwapFree: {swap * 1024} kB\n")
    path = f"{qemu(tmp_path / 'bin', NEW)}:/usr/bin:/bin"
    status, output = run(
        tmp_path, "mount --bind meminfo /proc/meminfo", "--kernel", "./k61", **{SUBSTITUTE: "", "PATH": path}
    )
    assert status == INFRASTRUCTURE, output  # the image boots nothing in any case
    said = f"a VM for k61 takes up to 512 MiB of memory, and {free + swap} MiB are free here"
    assert (said in output) is refused
    assert ("ended before its worker was up" in output) is not refused


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        ("0::/a/b\n", {}, 8000),
        ("0::/a/b\n", {"a/memory.max": 600, "a/memory.current": 500, "a/b/memory.max": 9, "a/b/memory.current": 1}, 8),
        ("0::/gone\n", {"memory.max": 600, "memory.current": 100}, 500),
        ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": 600, "memory/a/memory.usage_in_bytes": 7}, 593),
    ],
)
def test_memory_of_a_container_is_limited_by_its_control_groups(
    tmp_path: Path, group: str, files: dict[str, int], left: int
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {8000 * 1024} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(group)
    for name, mebibytes in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{mebibytes << 20}\n")
        file.with_name("memory.stat").write_text("anon 1\ninactive_file 0\n")
    assert available(root=tmp_path) == left


def test_pages_of_files_that_a_group_gives_back_are_free(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {100 * 1024} kB\nSwapFree: {50 * 1024} kB\n")
    assert (available(root=tmp_path), available(swap=True, root=tmp_path)) == (100, 150)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    for name, content in (("max", 90 << 20), ("current", 80 << 20), ("stat", f"inactive_file {30 << 20}")):
        (tmp_path / f"sys/fs/cgroup/memory.{name}").write_text(f"{content}\n")
    assert available(root=tmp_path) == 40


def test_memory_of_this_machine_is_read() -> None:
    assert 0 < available() <= available(swap=True)

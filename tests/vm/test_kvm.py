# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In real VMs: KVM that does not work, of four kinds, costs a line, and the cases run emulated.

What fails is a stand-in for QEMU that is first on PATH; the real one is behind it, and emulates.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from started import KERNEL, ROOT, started

from vm.base.paths import cache_root
from vm.boot.acceleration import KVM

if TYPE_CHECKING:
    from pathlib import Path

STAND_IN = ROOT / "tests/unit/stand_in_kvm.py"
FELL_BACK = "KVM failed, and the run goes on emulated: "
WHY = {
    "internal-error": "QEMU paused the VM: internal-error: KVM internal error. Suberror: 1; emulation failure",
    "abort": "QEMU was ended by SIGABRT: ",
    "hang": "nothing on its console for 10 s",
    "crawl": "still booting after 30 s, at 'crawling'",
}


def with_kvm(directory: Path, fate: str) -> dict[str, str]:
    """Return an environment where KVM has this fate, nothing is known of it, and the fetched kernels are there."""
    real = shutil.which("qemu-system-x86_64")
    (directory / "bin").mkdir()
    program = directory / "bin/qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_IN} {fate} {real} "$@"\n')
    program.chmod(0o755)
    cache = directory / "cache" / cache_root().name
    cache.mkdir(parents=True)
    for shared in ("apt", "bpf", "kernels"):
        (cache_root() / shared).mkdir(parents=True, exist_ok=True)
        (cache / shared).symlink_to(cache_root() / shared)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, KVM: os.devnull, "XDG_CACHE_HOME": str(cache.parent)}


def run(directory: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vm", *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("fate", WHY)
def test_cases_run_emulated_after_one_line_and_at_once_the_next_time(tmp_path: Path, fate: str) -> None:
    environment = with_kvm(tmp_path, fate)
    with started(tmp_path / "first", "--kernel", KERNEL, cases="before", variables=environment) as first:
        assert first.ended() == 0, first.output
    assert first.output.count(FELL_BACK + WHY[fate]) == 1
    assert first.output.count(FELL_BACK) == 1
    assert first.left() == []
    (kernel,) = first.results["kernels"]
    assert (kernel["accel"], kernel["vms"], kernel["splats"]) == ("tcg", 1, [])
    assert kernel["notes"][0].startswith(f"emulated: KVM failed: {WHY[fate]}")
    with started(tmp_path / "second", "--kernel", KERNEL, cases="before", variables=environment) as second:
        assert second.ended() == 0, second.output
    assert FELL_BACK not in second.output
    assert second.results["kernels"][0]["accel"] == "tcg"
    said = run(tmp_path, environment, "accel").stdout
    assert f": failed: {WHY[fate]}" in said
    assert "so every kernel is emulated: --accel kvm tries one again" in said


def test_insisting_fails_at_once_and_a_command_runs_emulated(tmp_path: Path) -> None:
    environment = with_kvm(tmp_path, "internal-error")
    insisted = run(tmp_path, environment, "run", "--accel", "kvm", KERNEL, "--", "true")
    assert insisted.returncode == 13
    assert f"{KERNEL} does not boot under KVM: {WHY['internal-error']}" in insisted.stderr
    done = run(tmp_path, environment, "run", KERNEL, "--", "echo", "up")
    assert (done.returncode, done.stdout) == (0, "up\n")
    assert done.stderr.count(FELL_BACK) == 1


def test_kernel_is_told_what_the_user_appends(tmp_path: Path) -> None:
    options = ("--accel", "tcg", "--append", "slub_debug=FZPU panic_on_warn=1", "--append", "debug")
    sizes = ("--memory", "384", "--cpus", "3")
    asked = "cat /proc/cmdline; sed -n 's/MemTotal: *//p' /proc/meminfo; cat /sys/devices/system/cpu/present"
    done = run(tmp_path, {}, "run", *options, *sizes, KERNEL, "--", "sh", "-c", asked)
    assert done.returncode == 0, done.stderr
    cmdline, memory, cpus = done.stdout.splitlines()
    assert cmdline.endswith(" slub_debug=FZPU panic_on_warn=1 debug rdinit=/init")
    assert 256 < int(memory.split()[0]) / 1024 < 384
    assert cpus == "0-2"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What runs in VMs take: until the first case, several kernels at once, cases that VMs share, and memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vm.boot.options import GuestOptions
from vm.boot.session import take_kernel

from ..measurement import MeasuringError
from .vm_runs import LOOK_EVERY, VmRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..measurement import Desk, Round, Take

FIRST_CASE, BARE_BOOT = "first case", "vng -- touch FILE"
TOGETHER, ALONE = "together", "each alone, added"
DELIVERIES, SECONDS = "deliveries", "seconds"
MEMORY, GUEST_MEMORY = "QEMU at most", "the guest's memory"

CASES = "cases/test_reference.py"
OTHERS = ("5.10", "6.12", "7.3", "6.1")
"""The kernels beside the one that is asked for, where four run."""


@contextmanager
def first_case(desk: Desk) -> Iterator[Take]:
    """Yield what runs one case in a VM, and boots the same kernel by vng for nothing; seconds."""
    image = take_kernel(desk.kernel, mirror=None).image
    vng = shutil.which("vng", path=str(Path(sys.executable).parent))
    if vng is None:
        raise MeasuringError("vng is missing beside this Python: run it by tox -e bench")

    def take() -> Round:
        begun = time.perf_counter()
        with VmRun([desk.kernel], "-k", "every_member and udp-ipv4-any-sockarray", CASES) as run:
            run.wait_for_first_case()
            seconds = time.perf_counter() - begun
            (kernel,) = run.end()
        emulated = ["--disable-kvm"] if kernel["accel"] == "tcg" else []
        # The status of the guest is lost where the host has no udev for it to run: a file tells that it ran.
        ran = desk.built / "ran"
        bare = [vng, "--run", str(image), "--user", "root", *emulated, "--rwdir", str(desk.built), "--", f"touch {ran}"]
        begun = time.perf_counter()
        done = subprocess.run(bare, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if not ran.exists():
            raise MeasuringError(f"{' '.join(bare)} ended with status {done.returncode}:\n{done.stderr}")
        ran.unlink()
        return {FIRST_CASE: seconds, BARE_BOOT: time.perf_counter() - begun}

    yield take


@contextmanager
def matrix(desk: Desk) -> Iterator[Take]:
    """Yield what runs cases on four kernels, together and one after the other, each on one VM; seconds."""
    kernels = [desk.kernel, *(name for name in OTHERS if name != desk.kernel)][:4]

    def take() -> Round:
        alone = sum(_seconds([name], "--vms", "1") for name in kernels)
        return {TOGETHER: _seconds(kernels), ALONE: alone}

    yield take


@contextmanager
def shared(desk: Desk) -> Iterator[Take]:
    """Yield what runs the reference cases on as many VMs of one kernel as fit, from the first case to the end."""

    def take() -> Round:
        with VmRun([desk.kernel], CASES) as run:
            run.wait_for_first_case()
            begun = time.perf_counter()
            (kernel,) = run.end()
            seconds = time.perf_counter() - begun
        return {DELIVERIES: sum(len(case["observed"]) for case in kernel["cases"]), SECONDS: seconds}

    yield take


@contextmanager
def memory(desk: Desk) -> Iterator[Take]:
    """Yield what runs the reference cases in one VM, and looks at the memory of QEMU; MiB."""

    def take() -> Round:
        most = 0.0
        with VmRun([desk.kernel], "--vms", "1", CASES) as run:
            while run.is_on:
                most = max(most, run.memory_of_vms())
                time.sleep(LOOK_EVERY)
            run.end()
        return {MEMORY: most, GUEST_MEMORY: float(GuestOptions().memory)}

    yield take


def _seconds(kernels: list[str], *options: str) -> float:
    begun = time.perf_counter()
    with VmRun(kernels, *options, CASES) as run:
        run.end()
    return time.perf_counter() - begun

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Decide between KVM and emulation for one boot, from what earlier boots have shown.

/dev/kvm may open and not work: on nested and paravirtual hosts QEMU aborts, hangs, or runs a kernel for 15 seconds and
then stops. A guest of a few instructions works there and proves nothing, so there is no trial: the boot of the kernel
to be tested shows whether KVM works (`vm.boot.booting`).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.boot.learnt import Boot, Known

Acceleration = Literal["kvm", "tcg"]

SUBSTITUTE = "REUSEPORT_VM_COMMAND"
"""The environment variable by which tests name a command that runs in place of QEMU."""
KVM = "REUSEPORT_KVM"
"""The environment variable by which tests name another file than /dev/kvm; with a substitute for QEMU there is no
other."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to boot, and why not under KVM, if the user should know."""

    acceleration: Acceleration
    why: str = ""


def device() -> Path:
    """Return the file that QEMU opens for KVM."""
    return Path(os.environ.get(KVM, "/dev/no-kvm" if SUBSTITUTE in os.environ else "/dev/kvm"))


def why_no_kvm() -> str:
    """Return why this process cannot use KVM, "" if it can open the device, and what to do about it."""
    try:
        os.close(os.open(device(), os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return (
            f"there is no {device()}: this machine's processor or firmware does not offer virtualization, the host of "
            "a VM or container does not pass it on, or the module kvm_intel or kvm_amd is not loaded"
        )
    except PermissionError:
        return f"{device()} may not be opened by this user: 'sudo usermod -aG kvm $USER' and a new login change that"
    except OSError as error:
        return f"{device()} cannot be opened: {error.strerror}"
    return ""


def choose(boot: Boot | None, known: Sequence[Known]) -> Choice:
    """Return how to boot, from what is known: under KVM unless it is likely to fail; `boot` is None without KVM.

    An unknown kernel is emulated if KVM has failed with another one and worked with none: many kernels in one run would
    lose half a minute each. If KVM has worked with any kernel, unknown ones are tried under KVM.
    """
    if boot is None:
        # Users know that there is no KVM; they may not know that one is there and cannot be opened.
        return Choice(acceleration="tcg", why=why_no_kvm() if device().exists() else "")
    here = [one for one in known if one.boot.is_on_same_machine(boot)]
    if same := next((one for one in reversed(here) if one.boot == boot), None):
        return Choice(acceleration="kvm") if same.works else _emulated(f"KVM failed with it before: {same.why}")
    failed = [one for one in here if not one.works]
    if failed and len(failed) == len(here):
        other = failed[-1]
        return _emulated(f"KVM failed here with {other.boot.kernel.name}, and worked with no kernel: {other.why}")
    return Choice(acceleration="kvm")


def _emulated(why: str) -> Choice:
    return Choice(acceleration="tcg", why=f"{why} (--accel kvm tries it again)")


def boot_id() -> str:
    """Return the running kernel's identifier of this boot, "" if it has none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Decide between KVM and emulation by running a guest for a moment.

/dev/kvm may exist and not work: on nested and paravirtual hosts QEMU aborts, or hangs in its first instruction.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vm.store import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable

Acceleration = Literal["kvm", "tcg"]

KVM = Path("/dev/kvm")

_EXIT_PORT = 0x501
_PROBE_SECONDS = 3
"""Natively the probe takes 0.1 s; a KVM that hangs never ends it."""

# mov dx, 0x501; xor al, al; out dx, al; hlt: isa-debug-exit ends QEMU with status 1.
_BOOT_SECTOR = bytes([0xBA, _EXIT_PORT & 0xFF, _EXIT_PORT >> 8, 0x30, 0xC0, 0xEE, 0xF4]).ljust(510, b"\0") + b"\x55\xaa"


def choose_acceleration(qemu: str, *, progress: Callable[[str], None]) -> Acceleration:
    """Return "kvm" where `qemu` runs a guest with it, else "tcg"; asked once a boot of this machine and remembered."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return "tcg"
    remembered = cache_root() / "acceleration.json"
    machine = {"boot": boot_id(), "node": platform.node(), "qemu": qemu}
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(remembered.read_text())
        if known["machine"] == machine:
            return "kvm" if known["kvm"] else "tcg"
    progress("trying whether KVM runs a guest here")
    works = kvm_works(qemu)
    with contextlib.suppress(OSError):  # a read-only cache costs the next run one more trial
        remembered.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=remembered.parent, delete=False) as file:
            json.dump({"machine": machine, "kvm": works}, file)
        Path(file.name).replace(remembered)
    return "kvm" if works else "tcg"


def kvm_works(qemu: str) -> bool:
    """Run a boot sector of seven bytes under KVM and tell whether it came to its end."""
    with tempfile.NamedTemporaryFile(suffix=".img") as disk:
        disk.write(_BOOT_SECTOR)
        disk.flush()
        command = [
            *(qemu, "-accel", "kvm", "-m", "64", "-display", "none", "-nodefaults", "-no-user-config"),
            *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x}"),
            *("-drive", f"file={disk.name},format=raw,if=floppy"),
        ]
        try:
            ended = subprocess.run(command, timeout=_PROBE_SECONDS, capture_output=True, check=False)
        except (subprocess.TimeoutExpired, OSError):
            return False
    return ended.returncode == 1


def boot_id() -> str:
    """Return what the running kernel calls this boot, "" if it does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Remember how long VMs took to come up on this machine: a file for each kernel in came-up/ of the cache.

The name of a file is a digest of everything that decides whether the VM comes up again: the kernel's image, the options
of the VM, QEMU, this machine with its own kernel. When any of them changes, nothing is known. A VM that does not come
up removes the file. A file that cannot be read or written counts as none: then VMs of a kernel start one after another.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.interface.atomic import write_text
from vm.base.paths import cache_root
from vm.boot.learnt import identify_file, this_machine

if TYPE_CHECKING:
    from pathlib import Path

    from vm.boot.options import GuestOptions
    from vm.kernels.kernel import Kernel

_MOST = 200  # kernels that are remembered: a bisection tries many, each of them once


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one kernel's VMs here."""

    _file: Path

    @property
    def seconds(self) -> float | None:
        """Return how long the last VM took from its start to its collected cases, None if it did not come up."""
        with contextlib.suppress(OSError, ValueError):
            seconds = float(self._file.read_text())
            return seconds if math.isfinite(seconds) and seconds > 0 else None
        return None

    def came_up(self, seconds: float) -> None:
        """Remember that a VM came up, after `seconds`."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, f"{seconds:.2f}\n")
            for old in sorted(self._file.parent.glob("*"), key=lambda file: -file.stat().st_mtime)[_MOST:]:
                old.unlink()

    def failed(self) -> None:
        """Forget the kernel, a VM of which did not come up."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


def record_of(kernel: Kernel, *, qemu: str, options: GuestOptions) -> Record | None:
    """Return what is known of VMs with `kernel`, None if it or QEMU cannot be read."""
    try:
        with kernel.image.open("rb") as image:
            digest = hashlib.file_digest(image, "sha256")
        digest.update(repr((identify_file(qemu), this_machine(), options)).encode())
    except OSError:
        return None
    return Record(_file=cache_root() / "came-up" / digest.hexdigest()[:32])

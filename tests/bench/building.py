# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile what the harness is measured against: the bare loop, and the kernel's own test from the sources of a kernel.

Nothing of the kernel is in this repository: its files are taken out of the distribution's archive when they are
compiled, and compiled as they are. Its test is a part of test_progs, which needs a built kernel; `native/peer.c` stands
in for the few functions of it that this one test calls.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .measurement import MeasuringError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NATIVE = Path(__file__).parent / "native"
SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")
BARE_LOOP, PEER, WHY_NOT = "bare_loop", "peer", "peer.why-not"

_SELFTESTS = "tools/testing/selftests/bpf"
_TEST = f"{_SELFTESTS}/prog_tests/select_reuseport.c"
_PROGRAM = f"{_SELFTESTS}/progs/test_select_reuseport_kern.c"
_COMPILED = "test_select_reuseport_kern.bpf.o"
"""The name by which the test opens it, in the present directory."""
_WANTED = (f"*/{_SELFTESTS}/*.h", f"*/{_TEST}", f"*/{_PROGRAM}", "*/tools/include/linux/*.h")


def build(directory: Path, *, tell: Callable[[str], None]) -> None:
    """Compile both into `directory`; where the peer cannot be compiled, a file there says why.

    Raises MeasuringError if the bare loop cannot be compiled.
    """
    tell("compiling the bare loop")
    _run("cc", "-O2", "-Wall", "-o", directory / BARE_LOOP, NATIVE / "bare_loop.c")
    tell(f"compiling the kernel's own test from {SOURCE}")
    try:
        _build_peer(directory)
    except MeasuringError as error:
        (directory / WHY_NOT).write_text(str(error))


def _build_peer(directory: Path) -> None:
    if not SOURCE.exists():
        raise MeasuringError(f"{SOURCE} is missing: install the package linux-source-6.1")
    with tempfile.TemporaryDirectory() as unpacked:
        tree = Path(unpacked)
        _run("tar", "-xf", SOURCE, "-C", tree, "--strip-components=1", "--wildcards", *_WANTED)
        headers = tree / _SELFTESTS
        _run(
            "clang", "-O2", "-g", "-w", "-target", "bpf", "-mcpu=v2", f"-I{headers}", f"-I{_multiarch()}",
            "-c", tree / _PROGRAM, "-o", directory / _COMPILED,
        )  # fmt: skip
        _run(
            # The system's headers come first; linux/err.h is the kernel's alone. u64 is in neither's linux/types.h.
            "cc", "-O2", "-w", "-D_GNU_SOURCE", "-D__must_check=", "-D__force=", "-Du64=__u64", f"-I{headers}",
            "-idirafter", tree / "tools/include", NATIVE / "peer.c", tree / _TEST, "-Wl,--wrap=epoll_wait", "-lbpf",
            "-o", directory / PEER,
        )  # fmt: skip


def _multiarch() -> str:
    """Return the directory of asm/types.h, which clang does not look into for another target than this machine."""
    done = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=False)
    return f"/usr/include/{done.stdout.strip()}"


def _run(*command: str | Path) -> None:
    if shutil.which(command[0]) is None:
        raise MeasuringError(f"{command[0]} is missing: run './bootstrap tox -e bench', which installs it")
    done = subprocess.run(_words(command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasuringError(f"{' '.join(_words(command))} failed:\n{done.stderr.strip()}")


def _words(command: Sequence[str | Path]) -> list[str]:
    return [str(word) for word in command]

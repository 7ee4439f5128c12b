# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels that count their lines: whether a path is one, and what is needed to read its counts.

GCC writes two files for an object. The notes (`.gcno`, beside the object) say which counter belongs to which lines; the
kernel serves the counters (`.gcda`) in /sys/kernel/debug/gcov (Documentation/dev-tools/gcov.rst). The gcov of the
compiler's own version reads both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import MissingToolError, OptionError
from vm.kernels.flavours import COUNTED
from vm.kernels.local import locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vm.kernels.catalogue import Selection

_HOW = "build one with 'python -m vm build TREE --output DIR --flavour gcov', and name it with --kernel DIR"
_MAGIC = b"oncg"
"""The first bytes of notes, on a little-endian machine (gcc/gcov-io.h, GCOV_NOTE_MAGIC)."""


@dataclass(frozen=True, kw_only=True)
class CountedKernel:
    """Where the parts of a kernel's counts are."""

    objects: Path
    """The directory that it was built in, which has the notes."""
    source: Path
    """Its source tree."""
    gcov: Path
    """The gcov that can read the counts."""


def counted_kernels(selections: Iterable[Selection], *, parameters: str = "") -> dict[str, CountedKernel]:
    """Return the kernels by their names. Raises OptionError for one without counts, and as `counted_kernel` does.

    `parameters` are those that the user adds to the kernels'.
    """
    if "debugfs=off" in parameters.split():
        raise OptionError("--kernel-coverage: the counts are in debugfs, which debugfs=off takes away")
    found = {}
    for selection in selections:
        if not isinstance(selection.source, Path):
            raise OptionError(f"--kernel-coverage: {selection.name} does not count its lines: {_HOW}")
        found[selection.name] = counted_kernel(selection.source)
    return found


def counted_kernel(path: Path) -> CountedKernel:
    """Return what is needed to read the counts of the kernel at `path`: a directory that a kernel was built in.

    Raises OptionError if it does not count, or if its notes or its sources are gone; MissingToolError without the gcov
    of its compiler; NotAKernelError where there is no kernel.
    """
    objects = locate(path).tree
    if objects is None:
        raise OptionError(f"--kernel-coverage: {path} is no directory that a kernel was built in: {_HOW}")
    config = (objects / ".config").read_text(errors="replace")
    if not re.search(r"^CONFIG_GCOV_KERNEL=y$", config, re.MULTILINE):
        raise OptionError(f"--kernel-coverage: the kernel in {path} does not count its lines: {_HOW}")
    if re.search(r"^CONFIG_CC_IS_CLANG=y$", config, re.MULTILINE):
        raise OptionError(f"--kernel-coverage: the kernel in {path} was built by clang, and GCC's gcov reads its own")
    source = (objects / "source").resolve() if (objects / "source").is_symlink() else objects
    there = [file for file in COUNTED if (source / file).is_file()]
    if not there:
        raise OptionError(
            f"--kernel-coverage: the sources of the kernel in {path} are gone: "
            f"there is no {source / next(iter(COUNTED))}"
        )
    notes = [objects / file.replace(".c", ".gcno") for file in there]
    missing = [note for note in notes if not note.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OptionError(
            f"--kernel-coverage: what says which line each counter is of is gone: there is no {missing[0]}{more}. "
            "Build the kernel again"
        )
    return CountedKernel(objects=objects, source=source, gcov=_gcov_of(notes[0]))


def compiler_of(notes: bytes) -> int | None:
    """Return the major version of the GCC that wrote notes, None if they are none.

    The version is four characters, the last in memory first (gcc/gcov-io.h): "B22*" is 12.2, "A93*" is 9.3.
    """
    stamp = notes[7:3:-1]
    if notes[:4] != _MAGIC or not re.fullmatch(rb"[A-Z]\d\d.", stamp, re.DOTALL):
        return None
    return (stamp[0] - ord("A")) * 10 + int(stamp[1:2])


def _gcov_of(notes: Path) -> Path:
    version = compiler_of(notes.read_bytes()[:8])
    if version is None:
        raise OptionError(f"--kernel-coverage: {notes} is not in the form that GCC writes")
    seen = []
    for name in (f"gcov-{version}", "gcov"):
        if (found := shutil.which(name)) is None:
            continue
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        match = re.search(r" (\d+)\.\d+", said.partition("\n")[0])
        if match is not None and int(match[1]) == version:
            return Path(found)
        seen.append(f"{found} is {match[1] if match else 'of an unknown version'}")
    others = f" ({', '.join(seen)})" if seen else ""
    raise MissingToolError(
        f"--kernel-coverage: the kernel was built by GCC {version}, whose gcov is not installed{others}: install the "
        f"package gcc-{version}, or build the kernel again"
    )

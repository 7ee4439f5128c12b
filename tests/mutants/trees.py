# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A copy of the project in which one mutant after the other is put, and what the compiler makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.loader import compiler
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .mutant import Mutant

_COPIED = ("bpf", "cases", "docs", "harness", "tests", "vm", "changelog.d")
_SINGLE = ("conftest.py", "pyproject.toml", "tox.ini", "README.md", "CONTRIBUTING.md", "SECURITY.md", "bindep.txt")

FIRST_TIME = 1_000_000_000
"""Seconds since 1970 at which the files of mutants were written, as they say. Each has another second: Python takes
bytecode for that of a source whose time and size are the same."""


def copy_project(root: Path, tree: Path) -> None:
    """Make `tree` a copy of what cases and tests need of the project."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in (name for name in _COPIED if (root / name).exists()):
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in (name for name in _SINGLE if (root / name).exists()):
        shutil.copy2(root / name, tree / name)


@contextmanager
def planted(tree: Path, mutant: Mutant, *, number: int) -> Iterator[None]:
    """Have the mutant in the tree for a while; `number` differs from that of any other mutant of the run."""
    path = tree / mutant.file
    original, times = path.read_bytes(), path.stat()
    try:
        path.write_bytes(mutant.apply(original))
        os.utime(path, (FIRST_TIME + number, FIRST_TIME + number))
        yield
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def makes_the_same(tree: Path, root: Path, variants: Iterable[str]) -> bool:
    """Return whether the compiler makes the same instructions of the programs in `tree` as of those in `root`.

    Sizes of maps are no instructions: whoever mutated what may only be one has to ask otherwise.
    """
    return all(_instructions(tree, name) == _instructions(root, name) for name in sorted(variants))


def _instructions(root: Path, name: str) -> bytes:
    variant = VARIANTS[name]
    flags = [flag for flag in compiler.FLAGS if flag not in {"-g", "-Werror"}]
    includes = [f"-I{root / 'bpf'}", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
    defines = [f"-D{define}" for define in variant.defines]
    source = str(root / "bpf" / (variant.file or ""))
    command = ["clang", *flags, "-w", *includes, *defines, "-c", source, "-o", "-"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout

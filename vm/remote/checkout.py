# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Describe the project on a machine: its files, its version, and the modules that its Python lacks.

execnet sends the source of this module to other machines, whose project may have any version: so it imports the
standard library alone. It runs there as long as the connection, and ends processes that would outlast it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARTS = ("bpf", "cases", "harness", "vm", "conftest.py", "pyproject.toml")
"""Files and directories that have to be the same on all machines of a run."""


def describe(root: Path, *, parts: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
    """Return a description of the project in `root`, in types that execnet can send.

    `directory` is its absolute path, `files` the digest of each file under `parts`, `version` what git calls it
    (without git, "unknown"), `lacks` those of `modules` that this Python does not find.
    """
    return {
        "directory": str(root.absolute()),
        "files": {str(path.relative_to(root)): _digest(path) for path in _files(root, parts)},
        "version": _version(root),
        "lacks": [module for module in modules if importlib.util.find_spec(module) is None],
    }


def _files(root: Path, parts: Sequence[str]) -> Iterator[Path]:
    for part in sorted(set(parts)):
        path = root / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            hidden = any(name.startswith(".") or name == "__pycache__" for name in file.relative_to(root).parts)
            if file.is_file() and not hidden:
                yield file


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _version(root: Path) -> str:
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except OSError:
        described = ""
    return described or "unknown"


if __name__ == "__channelexec__":
    import os

    wanted = channel.receive()  # type: ignore[name-defined]  # noqa: F821
    channel.send(describe(Path.cwd(), **wanted))  # type: ignore[name-defined]  # noqa: F821
    collecting = None
    try:
        arguments = channel.receive()  # type: ignore[name-defined]  # noqa: F821
        if not sys.dont_write_bytecode:
            nothing = subprocess.DEVNULL
            collecting = subprocess.Popen([sys.executable, *arguments], stdin=nothing, stdout=nothing, stderr=nothing)
        channel.receive()  # type: ignore[name-defined]  # noqa: F821
    except EOFError:
        # The connection has ended. Without this execnet would take 15 seconds to end the relays.
        if collecting is not None:
            collecting.kill()
        os._exit(0)

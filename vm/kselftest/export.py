# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write the harness into a directory of the kernel's selftests."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import KernelError
from vm.base.paths import PROJECT
from vm.kernels.build import FRAGMENT
from vm.kernels.store import translate_oserror

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = ".reuseport-harness.json"
"""In an export: the files that are of it, so that another may take its place."""

COPY = "reuseport-harness"
PARTS = ("bindep.txt", "bootstrap", "bpf", "cases", "conftest.py", "harness", "LICENSES", "pyproject.toml", "vm")
"""What of this project runs the cases."""

_FILES = Path(__file__).with_name("files")
_NEEDED_BESIDE = ("lib.mk", "kselftest/runner.sh")
_OF_RUNS = ("__pycache__", "results", ".pytest_cache")

_OF_THE_GUEST = (
    "# What a kernel that is built",
    "# The machine",
    "# What Python",
    "# A kernel that is stuck",
    "# What virtme-ng",
)
"""How the blocks of the fragment begin that no case needs: the tree's own configuration has its own machine."""


class ExportError(KernelError):
    """The harness cannot be exported into a directory; the message says why."""


def export(directory: Path, *, python: str) -> None:
    """Write the selftest into `directory`, whole or not at all; `python` is what runs it on this machine.

    Raises ExportError for a directory that is not among the kernel's selftests or has files that are of no export, and
    StoreError where it cannot be written.
    """
    directory = directory.absolute()
    if missing := [part for part in PARTS if not (PROJECT / part).exists()]:
        raise ExportError(f"{PROJECT} has no {missing[0]}: export from a checkout of the project")
    _demand_runner(directory)
    _demand_free(directory)
    with translate_oserror(directory):
        staged = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            _write(staged, python=python)
            staged.chmod(0o755)
            if directory.exists():
                directory.rename(staged / ".replaced")
            staged.rename(directory)
            shutil.rmtree(directory / ".replaced", ignore_errors=True)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise


def config() -> str:
    """Return the fragment of a kernel's configuration that the cases need."""
    blocks = FRAGMENT.read_text().split("\n\n")[1:]
    needed = [block.strip() for block in blocks if not block.startswith(_OF_THE_GUEST)]
    options = [line for block in needed for line in block.splitlines() if line.startswith("CONFIG_")]
    return "".join(f"{option}\n" for option in options)


def _demand_runner(directory: Path) -> None:
    missing = [name for name in _NEEDED_BESIDE if not (directory.parent / name).is_file()]
    if missing:
        raise ExportError(
            f"{directory.parent} has no {' and no '.join(missing)}, which run a selftest: give a directory in "
            "tools/testing/selftests of a kernel tree, such as ~/linux/tools/testing/selftests/reuseport"
        )


def _demand_free(directory: Path) -> None:
    """Raise ExportError for a directory with files that are not of an export."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ExportError(f"{directory} is no directory")
    try:
        known = set(json.loads((directory / MANIFEST).read_text()))
    except (OSError, ValueError):
        known = set()
    own = [name for name in _files_in(directory) if name not in known]
    if own:
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        raise ExportError(f"{directory} has files that are of no export ({own[0]}{more}): give another directory")


def _write(directory: Path, *, python: str) -> None:
    shutil.copytree(_FILES, directory, dirs_exist_ok=True)
    (directory / "config").write_text(config())
    copy = directory / COPY
    copy.mkdir()
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns(*_OF_RUNS))
        else:
            shutil.copy2(source, copy / part)
    (copy / "python").write_text(f"{python}\n")
    # What a tree ignores (*.a, .*) is none of it; what runs leave is.
    (directory / ".gitignore").write_text("__pycache__/\n/reuseport-harness/python\n/reuseport-harness/results/\n")
    (directory / MANIFEST).write_text(json.dumps([*sorted(_files_in(directory)), MANIFEST], indent=1) + "\n")


def _files_in(directory: Path) -> Iterator[str]:
    """Yield the files below a directory, without what runs leave."""
    for path in directory.rglob("*"):
        name = path.relative_to(directory)
        if not path.is_dir() and not set(name.parts) & set(_OF_RUNS):
            yield str(name)

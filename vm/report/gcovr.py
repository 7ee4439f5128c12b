# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have gcovr make pages of what a kernel counted, and read what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.interface.atomic import write_text
from vm.base.children import demand_room, scratch_directory
from vm.base.errors import MissingToolError
from vm.report import kernel_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vm.report.kernel_lines import Function

DATA, PAGE, TEXT, JSON = "gcov", "coverage/index.html", "coverage.txt", "coverage.json"
"""What there is in a kernel's directory: the counts, a directory a VM; the page, the text and gcovr's own form."""


class CoverageError(Exception):
    """Counts cannot be made into a report; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A kernel's notes, its sources, and the gcov that reads them; `functions` is what counted.toml has."""

    objects: Path
    source: Path
    gcov: Path
    functions: Mapping[str, str]


def demand() -> None:
    """Raise MissingToolError if gcovr is not installed beside this Python."""
    if importlib.util.find_spec("gcovr") is None:
        raise MissingToolError(
            "--kernel-coverage: gcovr is not installed: the environment vm of tox has it, or pip install 'gcovr>=8,<9'"
        )


def keep(counts: Mapping[str, bytes], directory: Path, wanted: Mapping[str, str]) -> None:
    """Write the counts that a VM handed over below the directory of a kernel's results. Raises OSError.

    `counts` are named by the places of the objects on the machine that built them, as the kernel has them.
    """
    place = directory / DATA / str(1 + sum(1 for _ in (directory / DATA).glob("*")))
    for name, content in counts.items():
        if file := _counted_file(name, wanted):
            path = place / Path(file).with_suffix(".gcda")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _counted_file(name: str, wanted: Mapping[str, str]) -> str:
    """Return the source file, of those that are wanted, whose counts `name` is the path of; "" if none."""
    return next((file for file in wanted if f"/{name}".endswith(f"/{Path(file).with_suffix('.gcda')}")), "")


def make_reports(directory: Path, counted: Counted) -> list[Function]:
    """Write page and text of the counts that `keep` wrote below `directory`; return what they say.

    Several VMs' counts are added. Raises CoverageError, and OSError where files cannot be written.
    """
    page = directory / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        _lay_out(directory / DATA, counted, scratch)
        _run_gcovr(scratch, counted, page=page, saved=directory / JSON)
    found: dict[str, Any] = json.loads((directory / JSON).read_text())
    texts = {
        file: (counted.source / file).read_text(errors="replace")
        for file in counted.functions
        if (counted.source / file).is_file()
    }
    functions = kernel_lines.by_function(found, texts, counted.functions)
    if not functions:
        raise CoverageError(
            f"gcovr found no line of {counted.source}: was the kernel built elsewhere, or again, since it was booted?"
        )
    write_text(directory / TEXT, kernel_lines.report(functions))
    return functions


def _lay_out(data: Path, counted: Counted, scratch: Path) -> None:
    """Put the notes beside the counts, where gcov looks for them."""
    for file in data.rglob("*.gcda"):
        target = scratch / file.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        source = Path(_counted_file(str(file), counted.functions))
        shutil.copyfile((counted.objects / source).with_suffix(".gcno"), target.with_suffix(".gcno"))


def _run_gcovr(scratch: Path, counted: Counted, *, page: Path, saved: Path) -> None:
    files = [f"--filter={re.escape(str(counted.source / file))}$" for file in counted.functions]
    command = [
        *(sys.executable, "-m", "gcovr", "--no-color", f"--root={counted.source}", f"--gcov-executable={counted.gcov}"),
        # Not every kernel has atomic counters: two CPUs may take a count from each other.
        "--gcov-ignore-parse-errors=negative_hits.warn_once_per_file",
        "--gcov-ignore-parse-errors=suspicious_hits.warn_once_per_file",
        "--merge-mode-functions=separate",
        # Of a kernel, what begins with "__" is no compiler's own.
        "--include-internal-functions",
        *files,
        *(f"--json={saved}", f"--html-details={page}", str(scratch)),
    ]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        demand_room(done.stderr)
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise CoverageError(f"gcovr: {said[-1] if said else f'status {done.returncode}'}")


def describe(name: str, functions: Sequence[Function]) -> list[str]:
    """Return the lines of the terminal on a kernel's counts."""
    return [f"lines of {name} that ran:", *(f"  {line}" for line in kernel_lines.summary(functions))]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write docs/kernel-coverage.md: `python -m tests.kernel_coverage BUILD NAME=DIRECTORY…`, of what runs counted."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.interface.atomic import write_text
from vm.base.children import scratch_directory
from vm.base.errors import KernelError
from vm.kernels.counted import counted_kernel
from vm.kernels.flavours import COUNTED
from vm.kernels.local import locate
from vm.report import gcovr

from . import reached

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
RESULTS, REASONS = HERE / "results.json", HERE / "unreached.toml"
PAGE = HERE.parents[1] / "docs/kernel-coverage.md"

EXIT_UNEXPLAINED, EXIT_USAGE = 1, 4

_DESCRIPTION = """\
Write docs/kernel-coverage.md from tests/kernel_coverage/results.json, after putting into that what runs counted on one
kernel. Exit status: 0; 1 if lines are not reached for no known reason, or a reason is one for no line; 4 for what
cannot be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel_coverage", description=_DESCRIPTION)
    parser.add_argument("build", nargs="?", type=Path, metavar="BUILD", help="the directory that was built in")
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="NAME=DIRECTORY[,DIRECTORY…]",
        help=f"runs that count together, and the directories that have their {gcovr.DATA}/: results/RUN/KERNEL, or "
        "that of `python -m vm run --kernel-coverage`; of the first name the gaps are listed",
    )
    args = parser.parse_args(arguments)
    known = reached.reasons(REASONS.read_text())
    try:
        if args.build is not None:
            write_text(RESULTS, reached.to_json(_read(args.build, args.runs)))
        found = reached.from_json(RESULTS.read_text())
    except (KernelError, gcovr.CoverageError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    write_text(PAGE, reached.page(found, known))
    stale, rest = reached.unused(found, known), reached.unexplained(found, known)
    for reason in stale:
        print(f"{reason}: a reason for nothing: its lines are reached, or are not in this kernel", file=sys.stderr)
    for one in rest:
        print(f"{one.file}:{one.line}: {one.function}: no reason: {one.text}", file=sys.stderr)
    return EXIT_UNEXPLAINED if rest or stale else 0


def _read(build: Path, runs: Sequence[str]) -> reached.Reached:
    kernel = counted_kernel(build)
    counted = gcovr.Counted(objects=kernel.objects, source=kernel.source, gcov=kernel.gcov, functions=COUNTED)
    found = {}
    for name, _, directories in (run.partition("=") for run in runs):
        with scratch_directory() as scratch:
            for place, directory in enumerate(directories.split(",")):
                shutil.copytree(Path(directory) / gcovr.DATA, scratch / gcovr.DATA / str(place))
            found[name] = gcovr.make_reports(scratch, counted)
    if not found:
        raise ValueError("name a run: NAME=DIRECTORY")
    texts = {file: (counted.source / file).read_text(errors="replace") for file in COUNTED}
    return reached.gather(locate(build).release, found, texts)


if __name__ == "__main__":
    sys.exit(main())

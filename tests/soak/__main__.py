# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e soak`: run the cases over and over on one kernel, and demand that nothing grows."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vm.base.progress import progress_on

from .inside import MARK
from .judge import MEMORY, courses
from .plot import draw
from .sample import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.base.progress import Progress

    from .judge import Course

ROOT = Path(__file__).resolve().parents[2]

EXIT_GREW, EXIT_USAGE, EXIT_INTERRUPTED = 1, 4, 130

_DESCRIPTION = """\
Run the cases in a VM with one kernel, over and over until the time is up, and count after each round what is held:
memory of the kernel, of QEMU and of the command that runs it, descriptors, sockets, programs, maps, links. Writes the
counts and two plots into results/soak-TIME/. Exit status: 0; 1 if something grew or a case failed; 4 for something
that cannot be used, or too few rounds to tell; 12 if the VM was lost, 13 if it did not boot; 130 after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    args = _parser().parse_args(arguments)
    if args.minutes <= 0:
        print(f"error: --minutes {args.minutes:g}: a soak takes longer than that", file=sys.stderr)
        return EXIT_USAGE
    directory = ROOT / "results" / f"soak-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    directory.mkdir(parents=True)
    samples: list[Sample] = []
    with progress_on(sys.stderr) as progress:
        status = _soak(args, directory, samples, progress)
    print(f"results: {directory}")
    if status not in (0, 1):
        return status
    try:
        found = courses(samples)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    draw(samples, directory)
    Console().print(_table(found, rounds=len(samples)))
    return EXIT_GREW if status or not all(course.is_flat for course in found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tox -e soak --", description=_DESCRIPTION)
    parser.add_argument(
        "--kernel",
        default="default",
        metavar="KERNEL",
        help="a name of 'python -m vm list', or a path (default: the distribution's kernel, or else the installed one)",
    )
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="how long (default: %(default)s)")
    parser.add_argument("-k", metavar="EXPRESSION", help="the cases to run, as pytest's -k (default: all)")
    parser.add_argument("files", nargs="*", metavar="FILE", help="files of cases (default: all)")
    return parser


def _soak(args: argparse.Namespace, directory: Path, samples: list[Sample], progress: Progress) -> int:
    """Run the rounds, add a sample of each to `samples` and to samples.jsonl; return the exit status of the rounds."""
    chosen = [*(["-k", args.k] if args.k else []), *args.files]
    inside = [sys.executable, "-m", "tests.soak.inside", str(args.minutes * 60), *chosen]
    command = [sys.executable, "-m", "vm", "run", args.kernel, "--", *inside]
    progress(f"booting {args.kernel}, and the first round")
    with _started(command) as rounds, (directory / "samples.jsonl").open("w") as kept:
        assert rounds.stdout is not None
        for line in rounds.stdout:
            if not line.startswith(MARK):
                progress.tell(line.rstrip())
                continue
            said: dict[str, Any] = json.loads(line.removeprefix(MARK))
            told, status = said.pop("said"), said.pop("status")
            said["host"] = _resident(rounds.pid)
            samples.append(Sample.from_json(said))
            kept.write(json.dumps({**said, "status": status, "said": told}) + "\n")
            kept.flush()
            minutes = samples[-1].seconds / 60
            progress.tell(f"round {len(samples)}, {minutes:.1f} of {args.minutes:g} min: {told}")
        return rounds.wait()


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start the rounds; end them, and the VM with them, however the context ends."""
    rounds = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        yield rounds
    except BaseException:
        rounds.send_signal(signal.SIGINT)
        rounds.wait()
        raise


def _resident(parent: int) -> int:
    """Return the KiB of memory that a process and all below it hold; 0 when it has ended."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                below.setdefault(above, []).append(int(entry.name))
    pages, left = 0, [parent]
    while left:
        process = left.pop()
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        left += below.get(process, [])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _table(found: Sequence[Course], *, rounds: int) -> Table:
    shown = Table("held after a round", "round 2", f"round {rounds}", "most", "added a round", "")
    for course in found:
        unit = " (KiB)" if course.name in MEMORY else ""
        numbers = (f"{number:,}" for number in (course.first, course.last, course.most))
        verdict = "flat" if course.is_flat else "GREW"
        shown.add_row(f"{course.name}{unit}", *numbers, f"{course.a_round:+.1f}", verdict)
    return shown


def _interruptible() -> int:
    try:
        return main()
    except KeyboardInterrupt:
        print("interrupted; results/soak-* keeps the rounds that ended", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_interruptible())

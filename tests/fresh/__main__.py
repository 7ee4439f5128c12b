# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e fresh`: run the README's commands in fresh installations of the distributions that it names."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vm.base.errors import FetchError

from .command import PROJECT
from .live import Line
from .network import this_network
from .report import table, write
from .root import DISTRIBUTIONS, disk_use, remove
from .steps import readme_commands, steps
from .trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .report import RootResult
    from .root import Distribution

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 4, 130

DISK = 6e9
"""Bytes that a root takes at most: packages, environments of Python, kernels."""

_DESCRIPTION = """\
Install Debian 12 and Debian 13 into directories (the smallest installation, git and python3), and run in each what the
README tells a newcomer to run, from a fresh clone of this checkout's last commit: as root, the first command again
as an ordinary user who has no sudo, and once more with --kernel running and the distribution's kernel installed.
Mirror, proxies and certificates are those of this machine. Needs root, mmdebstrap, and 6 GB of disk; takes about 20
minutes a root on two cores where QEMU emulates."""

_EPILOG = """\
results/fresh-TIME/ keeps the output of every command, the results of the runs, and fresh.json.
Exit status: 0 everything passed, 1 something did not, 4 it cannot run here, 130 interrupted."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the trials that the words ask for and return the exit status."""
    arguments = _parser().parse_args(words)
    chosen = [entry for entry in DISTRIBUTIONS if not arguments.roots or entry.name in arguments.roots]
    if reason := why_not(arguments.directory):
        print(reason, file=sys.stderr)
        return EXIT_USAGE
    # To end after SIGTERM, or when the terminal is closed, as after Ctrl-C: with nothing left behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(chosen, arguments)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted: the roots are removed", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tox -e fresh --",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [entry.name for entry in DISTRIBUTIONS]
    parser.add_argument("--root", choices=names, action="append", dest="roots", help="this one only (repeatable)")
    parser.add_argument("--keep", action="store_true", help="keep a root where something failed, and say where it is")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="where the roots are made (default: %(default)s)"
    )
    parser.add_argument(
        "--mirror", metavar="ADDRESS", help="Debian's archive (default: from this machine's apt sources)"
    )
    return parser


def why_not(directory: Path) -> str | None:
    """Return why no root can be made in `directory` and what to do about it, None when one can."""
    if os.geteuid() != 0:
        return "fresh roots are mounted and entered by root: run this as root"
    tools = ("mmdebstrap", "unshare", "setpriv", "dpkg-query", "apt-get", "git")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}. './bootstrap tox -e fresh' installs what is needed"
    if not directory.is_dir():
        return f"{directory} is no directory: name one with --directory"
    free = shutil.disk_usage(directory).free
    if free < DISK:
        return f"{directory} has {free / 1e9:.1f} GB free, and a root takes up to {DISK / 1e9:.0f}: choose --directory"
    return None


def _run(chosen: Sequence[Distribution], arguments: argparse.Namespace) -> int:
    network = this_network(mirror=arguments.mirror)
    tried = steps(readme_commands((PROJECT / "README.md").read_text()))
    begun = datetime.now(UTC)
    logs = PROJECT / "results" / f"fresh-{begun:%Y%m%dT%H%M%SZ}"
    logs.mkdir(parents=True)
    results: list[RootResult] = []
    with Line() as line, tempfile.TemporaryDirectory(prefix="reuseport-fresh-") as scratch:
        project = _bundle(Path(scratch, "project.bundle"))
        if _git("status", "--porcelain"):
            line.say("note: the clones have the last commit; what is changed and not committed is not tried")
        for entry in chosen:
            with _directory(arguments.directory, keep=arguments.keep, line=line) as place:
                trial = Trial(
                    distribution=entry,
                    steps=tried,
                    network=network,
                    project=project,
                    root=place.root,
                    logs=logs,
                    line=line,
                )
                results.append(trial.run())
                place.passed = results[-1].passed
            write(logs, results, _facts(begun))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table(results, width=console.width))
    print(f"results: {logs}")
    return 0 if all(result.passed for result in results) else EXIT_FAILED


@dataclass
class _Place:
    """The directory of a root, and whether everything passed in it."""

    root: Path
    passed: bool = False


@contextlib.contextmanager
def _directory(parent: Path, *, keep: bool, line: Line) -> Iterator[_Place]:
    """Make a directory for a root, and remove it at the end however that comes; `keep` it where something failed."""
    # For root alone: programs of the root that run with their owner's rights are nothing for this machine's users.
    outer = Path(tempfile.mkdtemp(prefix="reuseport-fresh-", dir=parent))
    place = _Place(outer / "root")
    interrupted = True
    try:
        yield place
        interrupted = False
    finally:
        size = f"{disk_use(outer) / 1e9:.1f} GB"
        if keep and not interrupted and not place.passed:
            line.say(f"kept for a look, {size}: {place.root}")
        else:
            try:
                line.show(f"removing {size} from {outer}", "")
            finally:  # a terminal that was closed takes no line
                remove(outer)


def _bundle(file: Path) -> Path:
    """Put the last commit and what it is made of into one file that git clones from."""
    _git("bundle", "create", "--quiet", str(file), "HEAD")
    return file


def _git(*words: str) -> str:
    # The checkout may be another user's: the one's who has become root by sudo.
    command = ["git", "-c", f"safe.directory={PROJECT}", "-C", str(PROJECT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _facts(begun: datetime) -> dict[str, object]:
    """Return what the file says of the run itself."""
    return {
        "begun": begun.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
    }


if __name__ == "__main__":
    sys.exit(main())

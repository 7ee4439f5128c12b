# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run commands in mount and PID namespaces of their own, as root or as a root's user, with their output in a file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROJECT = Path(__file__).resolve().parents[2]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK_EVERY = 0.5  # seconds
_PATIENCE = 60
"""Seconds that a command has to end after Ctrl-C: a run ends its VMs and writes its results."""

# Whatever ends this process ends all of them: each one asks the kernel for it (prctl(2), PR_SET_PDEATHSIG).
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of a command."""

    status: int  # its exit status
    seconds: float
    left: tuple[str, ...]  # the command lines of processes that it left running


def isolated(command: Sequence[str], *, log: Path, progress: Callable[[str], None]) -> Done:
    """Run a command of this machine in namespaces of its own; `progress` is told the newest line of its output.

    Ctrl-C ends it at once: what it makes is removed anyway.
    """
    return _run(command, log=log, progress=progress, environment=None, patience=0)


def inside(
    root: Path,
    command: Sequence[str],
    *,
    user: str,
    directory: str,
    variables: Mapping[str, str],
    log: Path,
    progress: Callable[[str], None],
) -> Done:
    """Run a command in `root` as `user` (its environment: a login's, and `variables`), in `directory` of the root."""
    home = "/root" if user == "root" else f"/home/{user}"
    environment = {"HOME": home, "USER": user, "LOGNAME": user, "PATH": _PATH, **variables}
    with tempfile.NamedTemporaryFile("r", prefix="reuseport-fresh-") as report:
        words = [sys.executable, "-m", "tests.fresh.inside", str(root), user, directory, report.name, *command]
        done = _run(words, log=log, progress=progress, environment=environment, patience=_PATIENCE)
        left = report.read()
    return Done(status=done.status, seconds=done.seconds, left=tuple(json.loads(left)) if left else ())


def _run(
    command: Sequence[str],
    *,
    log: Path,
    progress: Callable[[str], None],
    environment: Mapping[str, str] | None,
    patience: float,
) -> Done:
    begun = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_NAMESPACES, *command],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                progress(last_line(log))
                time.sleep(_LOOK_EVERY)
        except KeyboardInterrupt:
            progress("interrupted: waiting for the command to end")
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C does not wait
                process.wait(patience)
            raise
        finally:
            process.kill()
            process.wait()
    return Done(status=process.returncode, seconds=round(time.monotonic() - begun, 1), left=())


def last_line(log: Path) -> str:
    """Return the last line of a file with words in it, without control characters."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, 2) - 2000, 0))
        text = file.read().decode(errors="replace").replace("\r", "\n")
    lines = ("".join(letter for letter in line if letter.isprintable()).strip() for line in text.splitlines())
    return next((line for line in reversed(list(lines)) if line), "")

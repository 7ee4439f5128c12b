# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Put a run's results where their readers look."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from vm import html, reports, results
from vm.outcomes import EXIT_STATUS, Verdict
from vm.results import RunResult
from vm.tools import versions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    import pytest

    from vm.results import KernelResult


UNPUBLISHED = EXIT_STATUS[Verdict.INFRASTRUCTURE]
"""The exit status of a run that leaves no results, unless what its kernels did is graver."""


class ResultsError(Exception):
    """Say why results cannot be written and what to do about it."""


def root(config: pytest.Config) -> Path:
    """Return the directory that runs leave theirs in."""
    return config.rootpath / results.ROOT.name


def run_result(
    config: pytest.Config,
    *,
    started: datetime,
    duration: float,
    exit_status: int,
    outcome: str,
    kernels: list[KernelResult],
) -> RunResult:
    """Return the results of a run as its files have them."""
    return RunResult(
        command=["pytest", *map(str, config.invocation_params.args)],
        started=started.isoformat(timespec="seconds"),
        duration=duration,
        exit=exit_status,
        outcome=outcome,
        tools=versions(),
        kernels=kernels,
    )


def make_directory(config: pytest.Config, *, started: datetime) -> Path:
    """Make and return the directory that a run leaves its results in. Raises ResultsError."""
    with explained(root(config)):
        return results.new_directory(root(config), started=started)


def publish(run: RunResult, directory: Path) -> Path:
    """Write the results and the reports made from them, and have results/latest lead there; return `directory`.

    Raises ResultsError; results/latest then leads where it led.
    """
    with explained(directory):
        results.write(run, directory)
        reports.write(run, directory)
        html.write(run, directory)
        results.point_latest(directory)
    return directory


def status_without_results(status: int) -> int:
    """Return the exit status of a run whose results could not be written and which would have ended with `status`."""
    return UNPUBLISHED if status in (0, EXIT_STATUS[Verdict.UNFINISHED]) else status


@contextlib.contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn an OSError of the file system that `directory` is on into a ResultsError that says what to do."""
    try:
        yield
    except OSError as error:
        raise ResultsError(explain(directory, error)) from error


def explain(directory: Path, error: OSError) -> str:
    """Return in words for the user what the file system under `directory` answered."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space; each directory in results/ is a run of the past"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "give this user the directory, or run in a checkout that can be written"
    else:
        remedy = "results/ has to be a directory that this user may write to"
    return f"results cannot be written: {error.filename or directory}: {reason}. To mend it, {remedy}"

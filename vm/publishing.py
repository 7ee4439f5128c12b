# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Put a run's results where their readers look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm import html, reports, results
from vm.results import RunResult
from vm.tools import versions

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import pytest

    from vm.results import KernelResult


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


def publish(run: RunResult, directory: Path) -> Path:
    """Write the results and the reports made from them, and have results/latest lead there; return `directory`."""
    results.write(run, directory)
    reports.write(run, directory)
    html.write(run, directory)
    results.point_latest(directory)
    return directory

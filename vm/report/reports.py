# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write a run's results in the forms that others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.report import html, markdown, results
from vm.report.junit import junit
from vm.report.ktap import ktap

if TYPE_CHECKING:
    from pathlib import Path

    from vm.report.history import History
    from vm.report.results import RunResult

JUNIT, KTAP, SUMMARY = "junit.xml", "results.ktap", "summary.md"


def write(run: RunResult, directory: Path, *, history: History | None = None) -> None:
    """Write every form into `directory`, where the stories are. Raises OSError."""
    results.write_text(directory / JUNIT, junit(run, directory))
    results.write_text(directory / KTAP, ktap(run))
    results.write_text(directory / SUMMARY, markdown.summary(run, history))
    html.write(run, directory, history=history)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Print what the cases of consistent hashing measured, and keep it in results/disruption.json and a picture.

A case states it as the property `disruption`, a `Disruption` as a mapping; `python -m harness plot` draws the picture
again from the data.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from harness.interface.atomic import write_text
from harness.interface.keys import DISRUPTION
from harness.model.disruption import Disruption
from harness.plugins.disruption_picture import DATA, NO_MATPLOTLIB, PICTURE, draw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FOUND = pytest.StashKey[list[Disruption]]()


def pytest_configure(config: pytest.Config) -> None:
    """Collect what is measured."""
    config.stash[_FOUND] = []
    config.pluginmanager.register(_Collector(config.stash[_FOUND]))


class _Collector:
    """The plugin that takes what cases measured, wherever they ran."""

    def __init__(self, found: list[Disruption]) -> None:
        self._found = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a case measured from its last report."""
        if report.when == "teardown":
            self._found += [Disruption(**value) for name, value in report.user_properties if name == DISRUPTION]  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the numbers, keep them, and draw them if matplotlib is installed."""
    found = config.stash[_FOUND]
    if not found:
        return
    terminalreporter.section("consistent hashing")
    for each in found:
        terminalreporter.line(str(each))
    try:
        _keep(found, config.rootpath / DATA)
    except OSError as error:
        terminalreporter.line(f"not kept in {DATA}, and not drawn: {error}")
        return
    try:
        draw(found, config.rootpath / PICTURE)
        terminalreporter.line(f"drawn in {PICTURE}")
    except ModuleNotFoundError:
        terminalreporter.line("not drawn: " + NO_MATPLOTLIB)
    except OSError as error:
        terminalreporter.line(f"not drawn: {error}")


def _keep(found: Sequence[Disruption], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps([asdict(each) for each in found], indent=1) + "\n")

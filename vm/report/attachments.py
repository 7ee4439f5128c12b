# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keep what a case's reports carry besides their outcome: its story, its frames, and what was compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from harness.interface.keys import FRAMES, LEDGER, MEASURED, PARTS
from vm.report import pcapng, stories
from vm.report.results import PacketEntry

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from vm.report.results import BugEntry, CaseResult

_PACKETS = 4
"""Frames that results.json and the page have of a case: the last that were sent. The pcap has all."""


def keep(report: pytest.TestReport, case: CaseResult, *, kernel: str, directory: Path) -> None:
    """Add to `case` what a report of it carries, and write its files under `directory`.

    Raises OSError where the files cannot be written; `case` has the rest then.
    """
    for name, value in report.user_properties:
        if name == LEDGER and isinstance(value, dict) and value not in case.bugs:
            case.bugs.append(cast("BugEntry", value))
        elif name == PARTS and isinstance(value, list):
            case.parts = value
        elif name == FRAMES and isinstance(value, list):
            shown = [frame for frame in value if frame["layers"]][-_PACKETS:]
            case.packets = [
                PacketEntry(layers=frame["layers"], data=frame["data"], fields=frame["fields"]) for frame in shown
            ]
        elif name == MEASURED and isinstance(value, dict) and value not in case.measured:
            case.measured.append(value)
    story = stories.keep(report.user_properties, case.id, kernel=kernel, directory=directory)
    case.story = story or case.story
    pcap = pcapng.keep(report.user_properties, case.id, reason=case.reason, kernel=kernel, directory=directory)
    case.pcap = pcap or case.pcap

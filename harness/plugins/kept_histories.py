# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What campaigns found and reached, wherever they ran: printed at the end, and kept in results/histories/.

A history is kept as a file for `--replay`, and its packet as a capture beside it.
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.atomic import write_bytes
from harness.interface.keys import HISTORY, REACHED
from harness.interface.results_file import DIRECTORY
from harness.model.life.transitions import not_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORIES = Path(DIRECTORY) / "histories"
_FOUND = pytest.StashKey[list[dict[str, Any]]]()
_REACHED = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Collect what campaigns find."""
    config.stash[_FOUND], config.stash[_REACHED] = [], []
    config.pluginmanager.register(_Collector(config))


class _Collector:
    """Takes what campaigns found and reached, wherever they ran."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for name, value in report.user_properties:
            if name == HISTORY:
                self._config.stash[_FOUND].append(value)  # type: ignore[arg-type]
            elif name == REACHED:
                self._config.stash[_REACHED].append(value)  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what campaigns reached, and keep what they found."""
    found, reached = config.stash[_FOUND], config.stash[_REACHED]
    if hasattr(config, "workerinput") or not (found or (reached and config.option.campaign is not None)):
        return
    terminalreporter.section("histories")
    for each in reached:
        for line in _lines(each):
            terminalreporter.line(line)
    taken: dict[str, Counter[str]] = {}
    for each in reached:
        taken.setdefault(each["kernel"], Counter()).update(each["taken"])
    for kernel, counts in taken.items():
        terminalreporter.line(f"{kernel}: transitions not taken: {', '.join(not_taken(counts)) or 'none'}")
    for each in found:
        try:
            terminalreporter.line(f"{each['kernel']}: {each['difference']}: kept in {keep(each, config.rootpath)}")
        except OSError as error:
            terminalreporter.line(f"{each['kernel']}: not kept in {HISTORIES}: {error}")


def _lines(reached: dict[str, Any]) -> Iterator[str]:
    seconds = max(reached["seconds"], 1e-9)
    yield (
        f"{reached['kernel']}, {reached['protocol']}: no difference in {reached['histories']} histories, "
        f"{reached['steps']} steps, {reached['packets']} packets: {reached['steps'] / seconds:.0f} steps and "
        f"{reached['packets'] / seconds:.0f} packets a second"
    )
    yield "  transitions: " + ", ".join(f"{name} {count}" for name, count in sorted(reached["taken"].items()))
    yield "  refused: " + ", ".join(f"{name} {count}" for name, count in sorted(reached["refused"].items()))


def keep(history: dict[str, Any], root: Path) -> Path:
    """Write a history's file, and its packet's capture beside it; return the file's path from `root`."""
    from harness.campaign.saved import Saved  # noqa: PLC0415

    saved = Saved.from_json(history)
    directory = root / HISTORIES
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", saved.text().encode()), (".pcap", _capture(saved.frame))):
        if content:
            write_bytes(directory / f"{saved.name}{suffix}", content)
    return HISTORIES / f"{saved.name}.json"


def _capture(frame: str) -> bytes:
    """Return a capture file with one Ethernet frame (libpcap's format 2.4), empty for no frame."""
    data = bytes.fromhex(frame)
    header = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return header + struct.pack("=IIII", 0, 0, len(data), len(data)) + data if data else b""

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
from harness.model.life.transitions import TRANSITIONS, not_taken
from harness.model.reception.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    if hasattr(config, "workerinput") or not (found or reached):
        return
    terminalreporter.section("histories")
    if config.option.campaign is None:
        for each in reached:
            terminalreporter.line(f"{each['kernel']}: {each['tried']} of {each['of']} {each['of_what']}: no difference")
    else:
        _print_reached(terminalreporter, reached)
    for each in found:
        what = each["difference"].partition("\n")[0]
        if each["sentence"] not in what:
            what += f": {each['sentence']}"
        try:
            terminalreporter.line(f"{each['kernel']}: {what}: kept in {keep(each, config.rootpath)}")
        except OSError as error:
            terminalreporter.line(f"{each['kernel']}: not kept in {HISTORIES}: {error}")


def _print_reached(terminalreporter: pytest.TerminalReporter, reached: list[dict[str, Any]]) -> None:
    taken: dict[tuple[str, bool], Counter[str]] = {}
    for each in reached:
        for line in _lines(each):
            terminalreporter.line(line)
        if each["taken"]:  # of two histories on one port the model knows nothing
            taken.setdefault((each["kernel"], bool(each["steps"])), Counter()).update(each["taken"])
    for (kernel, of_histories), counts in taken.items():
        missing = not_taken(counts, TRANSITIONS if of_histories else WAYS)
        what = "transitions" if of_histories else "ways of packets"
        terminalreporter.line(f"{kernel}: {what} not taken: {', '.join(missing) or 'none'}")


def _lines(reached: dict[str, Any]) -> Iterator[str]:
    seconds = max(reached["seconds"], 1e-9)
    steps = f"{reached['steps']} steps, " if reached["steps"] else ""
    rates = [f"{reached[name] / seconds:.0f} {name}" for name in ("steps", "packets") if reached[name]]
    yield (
        f"{reached['kernel']}: no difference in {reached['tried']} {reached['of_what']}, {steps}"
        f"{reached['packets']} packets: {' and '.join(rates)} a second"
    )
    for title, name in (
        ("transitions", "taken"),
        ("refused", "refused"),
        ("results", "results"),
        ("replies", "replies"),
    ):
        if counts := reached.get(name):
            yield f"  {title}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    for what in reached.get("left_out", []):
        yield f"  not generated: {what}"


def keep(history: dict[str, Any], root: Path) -> Path:
    """Write a history's file, and a capture of its frames beside it; return the file's path from `root`."""
    from harness.campaign.files import from_json  # noqa: PLC0415

    saved = from_json(history)
    directory = root / HISTORIES
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", saved.text().encode()), (".pcap", _capture(saved.frames))):
        if content:
            write_bytes(directory / f"{saved.name}{suffix}", content)
    return HISTORIES / f"{saved.name}.json"


def _capture(frames: Sequence[str]) -> bytes:
    """Return a capture file with Ethernet frames (libpcap's format 2.4), empty for none."""
    if not frames:
        return b""
    made = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for frame in frames:
        data = bytes.fromhex(frame)
        made += struct.pack("=IIII", 0, 0, len(data), len(data)) + data
    return made

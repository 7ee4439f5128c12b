# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A pytest plugin for the guest: collect once, then run cases under one fault after the other, each in a fork.

Jobs come as lines of JSON on standard input, `{"fault": 7, "cases": [3, 1, 2], "stop": true, "reach": false}`, cases by
their places among those collected. What happens goes out as lines of JSON behind `MARK`; with `reach`, which faults'
code each case ran into as well. A fork has met no fixture, so that a case that went wrong leaves nothing to the next
fault but what the kernel keeps.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.plugins.objects import compiled
from vm.guest.fastpath import FastPath
from vm.report.console import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "@kernel-faults "
PARAMETER = Path(os.environ.get("REUSEPORT_FAULT", "/sys/module/kernel/parameters/reuseport_fault"))
"""The variable is for tests on a kernel without faults."""
REACHED = PARAMETER.with_name(f"{PARAMETER.name}_reached")
SECONDS_OF_A_CASE = 120
"""After which a case hangs: the longest takes 6 s under emulation, and more than 30 s on a host that is overloaded."""
_CLEAR_WARN_ONCE = Path("/sys/kernel/debug/clear_warn_once")
"""So that what warns once warns of each fault (Documentation/admin-guide/clearing-warn-once.rst)."""

_OF_FIXTURES = (
    *("harness.group.bench", "harness.group.delivery", "harness.group.reuseport_group", "harness.group.own_program"),
    *("harness.loader.maps", "harness.loader.program", "harness.wire.veth", "harness.campaign.history"),
)
"""Modules that fixtures import, which takes seconds under emulation: imported before the first fork, not in each."""

# pytest puts files of its own in their places as it starts.
_IN, _OUT = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)


def pytest_configure(config: pytest.Config) -> None:
    """Take over from the loop of pytest."""
    config.pluginmanager.register(_Worker(), "kernel-faults-worker")
    config.pluginmanager.register(FastPath(), "kernel-faults-fast-path")


class _Worker:
    def __init__(self) -> None:
        self._failure = ""  # of the case that runs
        self._setup = ""  # what its fixtures ran into

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Say which cases there are, then take jobs until there are no more."""
        if any("wire" in getattr(item, "fixturenames", ()) for item in session.items):
            compiled(session.config)
            for name in _OF_FIXTURES:
                importlib.import_module(name)
        if session.config.option.collectonly:
            return None
        cases = [
            {"id": item.nodeid, "promises": [name for mark in item.iter_markers("promise") for name in mark.args]}
            for item in session.items
        ]
        _say(event="ready", cases=cases, release=os.uname().release)
        for line in _lines():
            job = json.loads(line)
            _say(event="done", **self._run(session.items, job))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the last line of what failed, and what fixtures ran into."""
        if report.when == "setup":
            self._setup = _take_reached()
        if report.failed and not self._failure:
            words = report.longreprtext.strip().splitlines() or ["failed"]
            errors = [line[2:] for line in words if line.startswith("E ")]
            self._failure = f"{report.when}: {' '.join((errors or words[-1:])[0].split())}"[:300]

    def _run(self, items: list[pytest.Item], job: dict[str, Any]) -> dict[str, Any]:
        """Run a job in a fork; return what came of it."""
        reader, writer = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reader)
            status = 1
            try:
                os.setsid()
                self._run_cases([items[place] for place in job["cases"]], job, writer)
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        outcome = self._follow(reader, job)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _reap(child)
        _set_fault(0)
        return {**outcome, "seconds": round(time.monotonic() - started, 1)}

    def _run_cases(self, items: list[pytest.Item], job: dict[str, Any], writer: int) -> None:
        with _kernel_messages() as complaints:
            if PARAMETER.is_relative_to("/sys"):
                _CLEAR_WARN_ONCE.write_text("1\n")
            _set_fault(job["fault"])
            for place, item in enumerate(items):
                following = items[place + 1] if place + 1 < len(items) else None
                self._failure = ""
                os.write(writer, json.dumps({"begin": job["cases"][place]}).encode() + b"\n")
                # From here: the case may take the guest down before the process that reads the pipe had its turn.
                _say(event="begin", case=job["cases"][place])
                _take_reached()
                started = time.monotonic()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if job["reach"]:
                    seconds = round(time.monotonic() - started, 3)
                    reached = {"setup": self._setup, "own": _take_reached(), "seconds": seconds}
                    _say(event="reached", case=job["cases"][place], **reached)
                if splat := next(complaints, ""):
                    os.write(writer, json.dumps({"splat": splat[:300]}).encode() + b"\n")
                    return
                if self._failure:
                    os.write(writer, json.dumps({"failed": self._failure}).encode() + b"\n")
                    if job["stop"]:
                        return
            os.write(writer, b'{"end": true}\n')

    def _follow(self, reader: int, job: dict[str, Any]) -> dict[str, Any]:
        """Return how the job ended."""
        case, failures, rest = None, list[int | None](), b""
        while True:
            ready, _, _ = select.select([reader], [], [], SECONDS_OF_A_CASE)
            part = os.read(reader, 65536) if ready else b""
            if not part:
                os.close(reader)
                why = "the process of the cases ended" if ready else f"more than {SECONDS_OF_A_CASE} s"
                outcome = "died" if ready else "hang"
                return {"outcome": outcome, "case": case, "why": why, "failures": failures}
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "begin" in said:
                    case = said["begin"]
                elif "splat" in said:
                    os.close(reader)
                    return {"outcome": "splat", "case": case, "why": said["splat"], "failures": failures}
                elif "failed" in said and job["stop"]:
                    os.close(reader)
                    return {"outcome": "failed", "case": case, "why": said["failed"]}
                elif "failed" in said:
                    failures.append(case)
                elif "end" in said:
                    os.close(reader)
                    return {"outcome": "passed", "failures": failures}


def _say(**content: Any) -> None:
    data = f"{MARK}{json.dumps(content)}\n".encode()
    while data:
        data = data[os.write(_OUT, data) :]


def _lines() -> Iterator[bytes]:
    rest = b""
    while part := _IN.read(65536):
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _set_fault(number: int) -> None:
    PARAMETER.write_text(f"{number}\n")


def _take_reached() -> str:
    """Return the bitmap of the faults whose code ran since the last call; empty on a kernel that has none."""
    try:
        reached = REACHED.read_text()
    except FileNotFoundError:
        return ""
    REACHED.write_text("\n")
    return reached.strip()


def _reap(child: int) -> None:
    """Wait for a killed process; one that the kernel does not let go is left to the host, which sees the silence."""
    os.waitpid(child, 0)


def complaint_of(message: str) -> str:
    """Return the first line of a record of /dev/kmsg if the kernel complains in it, or nothing.

    A record is a head, a semicolon, a line of text, and lines about a device. The text may be empty: lockdep's reports
    begin so.
    """
    text = re.sub(r"^[^;]*;", "", message).partition("\n")[0]
    return text if text and scan(text, ran=()) else ""


@contextlib.contextmanager
def _kernel_messages() -> Iterator[Iterator[str]]:
    """Yield what gives the splats that have come since, and nothing while there are none."""
    try:
        messages = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        yield iter(())
        return
    os.lseek(messages, 0, os.SEEK_END)

    class Splats:
        def __iter__(self) -> Splats:
            return self

        def __next__(self) -> str:
            while True:
                try:
                    message = os.read(messages, 8192).decode(errors="replace")
                except BlockingIOError:
                    raise StopIteration from None
                except BrokenPipeError:  # overwritten before it was read
                    continue
                if complaint := complaint_of(message):
                    return complaint

    try:
        yield Splats()
    finally:
        os.close(messages)

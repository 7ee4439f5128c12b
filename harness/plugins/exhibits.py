# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Attach to the report of a failed case what its readers want to see: the frames, and what was compared.

A case that passes pays for a call that does nothing: dissecting takes a guest milliseconds.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import FRAMES, PARTS
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.model.variants import Reads, Variant

_DISSECTED = 4
"""Frames of a case that are dissected: the last that were sent."""

_words = reprlib.Repr()
_words.maxstring = _words.maxother = 300
_words.maxlist = _words.maxtuple = _words.maxdict = _words.maxset = 20

_compared: list[dict[str, Any]] = []
"""The comparison that failed last, if the case that runs has one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says which cases leave their frames."""
    parser.getgroup("reuseport").addoption(
        "--pcap",
        choices=("failed", "all"),
        default="failed",
        help="which cases leave their frames as results/<run>/<kernel>/pcap/<case>.pcapng (default: failed)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget what the case before compared."""
    _compared.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Forget the frames of the case before."""
    if (wire := _wire_of(item)) is not None:
        wire.seen.clear()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> None:
    """Keep both sides of a comparison that failed, for which pytest has its own words: the expected one is right."""
    _compared[:] = [
        {
            "expected": _words.repr(right) if op == "==" else f"{op} {_words.repr(right)}",
            "observed": _words.repr(left),
            "differs": True,
            "meaning": f"the case demands observed {op} expected",
        }
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the frames and the comparison to the report of a phase that failed."""
    report = yield
    if not (report.failed or item.config.option.pcap == "all"):
        return report
    if report.failed and _compared and call.excinfo is not None and issubclass(call.excinfo.type, AssertionError):
        report.user_properties.append((PARTS, list(_compared)))
    wire = _wire_of(item)
    if call.when == "call" and wire is not None and wire.seen:
        frames = _frames(wire, dissected=_DISSECTED * report.failed, reads=_reads_of(item))
        report.user_properties.append((FRAMES, frames))
    return report


def _wire_of(item: pytest.Item) -> Any:
    return getattr(item, "funcargs", {}).get("wire")


def _reads_of(item: pytest.Item) -> tuple[Reads, ...]:
    """Return what the case's program reads of a packet; empty if it is not known, as of a program of the user's own."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    if "attach_reference" in arguments:
        return VARIANTS["reference"].reads
    variant: Variant | None = getattr(getattr(arguments.get("group"), "program", None), "variant", None)
    return variant.reads if variant is not None else ()


def _frames(wire: Any, *, dissected: int, reads: tuple[Reads, ...]) -> list[dict[str, Any]]:
    from harness.wire.fields import fields_of  # noqa: PLC0415  # scapy is slow to import in a guest
    from harness.wire.scapy_layers import Ether  # noqa: PLC0415

    sent = [number for number, frame in enumerate(wire.seen) if frame.sent]
    shown = set(sent[-dissected:]) if dissected else set()
    return [
        {
            "at": frame.at,
            "sent": frame.sent,
            "data": frame.data.hex(),
            "note": frame.note,
            "layers": Ether(frame.data).show(dump=True) if number in shown else "",
            "fields": fields_of(frame.data, reads) if number in shown else [],
        }
        for number, frame in enumerate(wire.seen)
    ]

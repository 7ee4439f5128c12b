# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The one value that a packet's outcome is, whether expected or observed, and where two of them part. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.abi import NO_OVERRIDE, Context, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ReplyKind(StrEnum):
    """Name what a packet can provoke; pure ACKs are not listed, their time is TCP's own affair."""

    SYN_ACK = "SYN-ACK"
    RESET = "RST"
    PORT_UNREACHABLE = "ICMP port unreachable"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Hold one frame that went back on the wire.

    `address` and `port` are the peer's, whom it answers: for an ICMP error those of the quoted packet's source.
    `ack` is TCP's acknowledgement number, None without TCP. `detail` describes an `OTHER`.
    """

    kind: ReplyKind
    address: str
    port: int
    ack: int | None = None
    detail: str = ""
    sequence: int = field(default=0, compare=False)
    """The kernel's choice, which nothing can predict."""
    options: bytes = field(default=b"", compare=False, repr=False)
    """TCP: the header's options, some of which are the kernel's choice too."""

    def __str__(self) -> str:
        ack = "" if self.ack is None else f", ack {self.ack}"
        return f"{self.kind} {self.detail}to {self.address}:{self.port}{ack}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Hold all that can be seen after a packet was sent.

    `received` maps each member that holds anything to the datagrams, or to the first bytes of each connection, that
    it holds: a member that is not named was looked at and is empty. `results` has only the results whose count
    moved. `context` is None if the program did not run.
    """

    received: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    results: Mapping[Result, int] = field(default_factory=dict)
    context: Context | None = None
    select_errors: tuple[int, ...] = ()
    """What bpf_sk_select_reuseport answered last (0 or -errno), empty if it was not called."""
    override: int = NO_OVERRIDE
    """tmp_index_ovr_map afterwards."""
    state: int = 0
    """state_map afterwards."""
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True)
class Delivered:
    """Say that exactly one member holds the packet; `result` is what the program counted, None if none ran."""

    member: int
    result: Result | None = Result.PASS
    hash: int | None = field(default=None, compare=False, repr=False)
    """The four-tuple's hash as the program saw it."""
    context: Context | None = field(default=None, compare=False, repr=False)
    """What the program recorded of the packet; None if it did not run, or records nothing."""


@dataclass(frozen=True)
class Dropped:
    """Say that no member holds anything of the packet."""

    result: Result | None
    hash: int | None = field(default=None, compare=False, repr=False)
    context: Context | None = field(default=None, compare=False, repr=False)


Selection = Delivered | Dropped


def selection_of(outcome: Outcome, *, hash_: int | None = None) -> Selection:
    """Return the outcome in the words of a rule.

    Raises ValueError if more than one member holds something, which no rule allows.
    """
    result = list(outcome.results)[-1] if outcome.results else None
    if not outcome.received:
        return Dropped(result, hash_, outcome.context)
    if len(outcome.received) > 1:
        raise ValueError(f"{len(outcome.received)} members hold the packet: {sorted(outcome.received)}")
    (member,) = outcome.received
    return Delivered(member, result, hash_, outcome.context)


@dataclass(frozen=True)
class Part:
    """Hold one part of two outcomes that are compared: its words on either side and what a difference means."""

    expected: str
    observed: str
    meaning: str

    @property
    def differs(self) -> bool:
        """Tell whether the two sides part here."""
        return self.expected != self.observed


def difference(expected: Outcome, observed: Outcome) -> str:
    """Return the outcomes on two lines, a caret line under what differs, and a line for each difference.

    Empty if they are equal.
    """
    if expected == observed:
        return ""
    parts = list(_parts(expected, observed))
    widths = [max(len(part.expected), len(part.observed)) for part in parts]
    rows = (
        ("expected", [part.expected for part in parts]),
        ("observed", [part.observed for part in parts]),
    )
    lines = [
        f"  {name}  " + " · ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()
        for name, texts in rows
    ]
    carets = "   ".join(("^" if part.differs else " ") * width for part, width in zip(parts, widths, strict=True))
    meanings = [f"  - {part.meaning}" for part in parts if part.differs]
    return "\n".join([*lines, f"            {carets}".rstrip(), *meanings])


def _parts(expected: Outcome, observed: Outcome) -> Iterator[Part]:
    yield Part(_received(expected), _received(observed), _received_meaning(expected.received, observed.received))
    yield Part(_results(expected), _results(observed), "result_map counted another result")
    yield Part(
        _context(expected, other=observed),
        _context(observed, other=expected),
        "data_check_map holds another record",
    )
    yield Part(_errors(expected), _errors(observed), "bpf_sk_select_reuseport() answered otherwise")
    if expected.override != observed.override:
        yield Part(f"override {expected.override}", f"override {observed.override}", "tmp_index_ovr_map differs")
    if expected.state != observed.state:
        yield Part(f"state {expected.state:#x}", f"state {observed.state:#x}", "the program remembers otherwise")
    yield Part(_replies(expected), _replies(observed), "something else went back on the wire")


def _received(outcome: Outcome) -> str:
    if not outcome.received:
        return "no member"
    return ", ".join(
        f"member {member}"
        + (f" ×{len(held)}" if len(held) > 1 else "")
        + ("" if not any(held) else " " + "|".join(data[:12].hex(" ") for data in held))
        for member, held in sorted(outcome.received.items())
    )


def _received_meaning(expected: Mapping[int, tuple[bytes, ...]], observed: Mapping[int, tuple[bytes, ...]]) -> str:
    if not observed:
        return f"nothing arrived; member {_names(expected)} should hold it"
    if not expected:
        return f"member {_names(observed)} received what should have been dropped"
    if set(expected) == set(observed):
        return f"member {_names(observed)} holds other bytes or another number of packets"
    return f"the packet reached member {_names(observed)} instead of member {_names(expected)}"


def _names(received: Mapping[int, tuple[bytes, ...]]) -> str:
    return ", ".join(map(str, sorted(received)))


def _results(outcome: Outcome) -> str:
    return ", ".join(f"{result.name} +{count}" for result, count in outcome.results.items()) or "not counted"


def _context(outcome: Outcome, *, other: Outcome) -> str:
    if outcome.context is None:
        return "program not run"
    shown = [f"len {outcome.context.length}"]
    if other.context is not None:
        shown += [
            f"{item.name} {getattr(outcome.context, item.name)}"
            for item in fields(Context)
            if item.name != "length" and getattr(outcome.context, item.name) != getattr(other.context, item.name)
        ]
    return ", ".join(shown)


def _errors(outcome: Outcome) -> str:
    return ", ".join(f"select {error}" for error in outcome.select_errors) or "no select"


def _replies(outcome: Outcome) -> str:
    return ", ".join(map(str, outcome.replies)) or "no reply"

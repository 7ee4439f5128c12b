# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A packet's outcome as one value, expected or observed, and the difference between two of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.abi import NO_OVERRIDE, Context, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_SHOWN = 12  # bytes of a datagram in a difference


class ReplyKind(StrEnum):
    """What a packet can provoke. Pure ACKs are left out: when TCP sends them depends on its timers."""

    SYN_ACK = "SYN-ACK"
    RESET = "RST"
    PORT_UNREACHABLE = "ICMP port unreachable"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One frame that went back on the wire.

    `address` and `port` are those of the peer that it answers: for an ICMP error the source of the quoted packet.
    `ack` is TCP's acknowledgement number, None without one. `detail` describes an `OTHER`.
    """

    kind: ReplyKind
    address: str
    port: int
    ack: int | None = None
    detail: str = ""
    sequence: int = field(default=0, compare=False)
    """TCP: the sequence number, which the kernel draws at random."""
    options: bytes = field(default=b"", compare=False, repr=False)
    """TCP: the header's options."""

    def __str__(self) -> str:
        ack = "" if self.ack is None else f", ack {self.ack}"
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.kind} {self.detail}to {address}:{self.port}{ack}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that can be seen after a packet was sent.

    `received` maps each member that holds something to its datagrams, or to the first bytes of each of its
    connections: every other member was looked at and is empty. `results` has only the results whose count grew.
    `context` is None if the program did not run, or records nothing.
    """

    received: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    results: Mapping[Result, int] = field(default_factory=dict)
    context: Context | None = None
    select_errors: tuple[int, ...] = ()
    """What bpf_sk_select_reuseport returned last (0 or -errno); empty if it was not called."""
    override: int = NO_OVERRIDE
    """The index in tmp_index_ovr_map afterwards."""
    state: int = 0
    """The number in state_map afterwards."""
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True)
class Delivered:
    """Exactly one member holds the packet; `result` is what the program counted, None if no program ran."""

    member: int
    result: Result | None = Result.PASS
    hash: int | None = field(default=None, compare=False, repr=False)
    """The four-tuple's hash as the program saw it."""
    context: Context | None = field(default=None, compare=False, repr=False)
    """What the program recorded of the packet; None if it did not run, or records nothing."""


@dataclass(frozen=True)
class Dropped:
    """No member holds anything of the packet."""

    result: Result | None
    hash: int | None = field(default=None, compare=False, repr=False)
    context: Context | None = field(default=None, compare=False, repr=False)


Selection = Delivered | Dropped


def selection_of(outcome: Outcome, *, hash_: int | None = None) -> Selection:
    """Return which member holds the packet, if any.

    Raises ValueError if more than one member holds something, which no program can bring about.
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
    """One part of two outcomes that are compared: its words on either side, and what a difference means."""

    expected: str
    observed: str
    differs: bool
    meaning: str


def difference(expected: Outcome, observed: Outcome) -> str:
    """Return the outcomes on two lines, a line with carets under what differs, and a line for each difference.

    Empty if they are equal.
    """
    if expected == observed:
        return ""
    parts = list(compared(expected, observed))
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


def compared(expected: Outcome, observed: Outcome) -> Iterator[Part]:
    """Yield the parts of two outcomes side by side."""
    yield Part(
        _received(expected, other=observed),
        _received(observed, other=expected),
        expected.received != observed.received,
        _received_meaning(expected.received, observed.received),
    )
    yield Part(
        _results(expected),
        _results(observed),
        expected.results != observed.results,
        "result_map counted another result",
    )
    yield Part(
        _context(expected, other=observed),
        _context(observed, other=expected),
        expected.context != observed.context,
        "data_check_map holds another record",
    )
    yield Part(
        _errors(expected),
        _errors(observed),
        expected.select_errors != observed.select_errors,
        "bpf_sk_select_reuseport() returned something else",
    )
    if expected.override != observed.override:
        sides = f"override {expected.override}", f"override {observed.override}"
        yield Part(*sides, True, "tmp_index_ovr_map holds another index")
    if expected.state != observed.state:
        yield Part(f"state {expected.state:#x}", f"state {observed.state:#x}", True, "state_map holds another number")
    yield Part(
        _replies(expected),
        _replies(observed),
        expected.replies != observed.replies,
        "something else went back on the wire",
    )


def _received(outcome: Outcome, *, other: Outcome) -> str:
    if not outcome.received:
        return "no member"
    return ", ".join(
        f"member {member}"
        + (f" ×{len(held)}" if len(held) > 1 else "")
        + ("" if not any(held) else " " + "|".join(_bytes(held, other.received.get(member, ()))))
        for member, held in sorted(outcome.received.items())
    )


def _bytes(held: tuple[bytes, ...], other: tuple[bytes, ...]) -> Iterator[str]:
    """Yield the first bytes of each datagram, or those from the first difference on if that comes later."""
    for place, data in enumerate(held):
        compared = other[place] if place < len(other) else data
        if data == compared or data[:_SHOWN] != compared[:_SHOWN]:
            yield data[:_SHOWN].hex(" ")
            continue
        pairs = enumerate(zip(data, compared, strict=False))
        at = next((at for at, (one, two) in pairs if one != two), min(len(data), len(compared)))
        yield f"byte {at}: {data[at : at + _SHOWN].hex(' ') or 'none'} of {len(data)} bytes"


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
    return ", ".join(f"{result.name} +{count}" for result, count in sorted(outcome.results.items())) or "not counted"


def _context(outcome: Outcome, *, other: Outcome) -> str:
    if outcome.context is None:
        return "no record"
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

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make sentences of what the witness saw: events to one path a packet, in the words that cases use. Pure."""

from __future__ import annotations

import base64
import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.model.uapi import MAP_TYPE
from harness.trace.events import SIZE, Event, Kind, Reading, Socket, cookie_in, drop_in, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_TCP, _UDP = 6, 17
_TCP_FLAGS = ((0x02, "SYN"), (0x04, "RST"), (0x01, "FIN"), (0x08, "PSH"), (0x10, "ACK"))
_LOOKUPS = {
    1: "UDP over IPv4 looks for a socket (__udp4_lib_lookup)",
    2: "UDP over IPv6 looks for a socket (__udp6_lib_lookup)",
    3: "TCP over IPv4 looks for a listener (__inet_lookup_listener)",
    4: "TCP over IPv6 looks for a listener (inet6_lookup_listener)",
}
_STATES = {1: "ESTABLISHED", 3: "SYN_RECV", 10: "LISTEN", 12: "NEW_SYN_RECV"}
_UNREACHABLE_PORT = {(3, 3), (1, 4)}
_SK_REUSEPORT = 21
_PROGRAMS = {0: "classic BPF", 1: "socket filter", _SK_REUSEPORT: "SK_REUSEPORT"}
_MAPS = {number: name for name, number in MAP_TYPE.items()}
_ANY_ADDRESS, _CONNECTED, _HAS_PROGRAM = 1, 2, 4
_NO_REASON = (0, 1, 2)  # unnumbered, SKB_CONSUMED or NOT_SPECIFIED, as the release has it


def _by_number(socket: Socket) -> str:
    return f"the socket with cookie {socket.cookie}" if socket.cookie else f"the socket with inode {socket.inode}"


@dataclass(frozen=True, kw_only=True)
class Words:
    """Hold the words for what a kernel only numbers."""

    cookies: Mapping[int, str] = field(default_factory=dict)
    """What a case calls a socket, by its cookie."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Drop reasons of the running kernel, {} where it has none (before 5.17)."""
    places: Mapping[int, str] = field(default_factory=dict)
    """The functions that the addresses of drops lie in."""

    def socket(self, socket: Socket | None) -> str:
        """Return what a case calls the socket."""
        if socket is None:
            return "no socket"
        return self.cookies.get(socket.cookie) or _by_number(socket)


@dataclass(frozen=True)
class Step:
    """Hold one sentence: what it is about in a word, and the sentence."""

    topic: str
    text: str

    def __str__(self) -> str:
        return f"  {self.topic:<9} {self.text}"


@dataclass(frozen=True, kw_only=True)
class Path:
    """Hold the way of one packet, or of one migration that no packet set off."""

    title: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "\n".join([self.title, *map(str, self.steps)])


@dataclass(frozen=True, kw_only=True)
class Story:
    """Hold the paths in order, and what the witness could not see."""

    paths: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [str(path) for path in self.paths] or ["nothing arrived for UDP or TCP"]
        return "\n".join([*parts, *(f"note: {note}" for note in self.notes)])


def tell(events: Sequence[Event], words: Words, *, lost: int = 0, missing: Sequence[str] = ()) -> Story:
    """Return the story of events; `missing` names what the witness could not stand at on this kernel."""
    notes = [f"this kernel does not let the witness see {what}" for what in missing]
    if lost:
        notes.append(f"{lost} earlier events were written over before they were read")
    return Story(paths=tuple(_path(path, words) for path in split(events)), notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hold all that a story is told from, small enough to travel: telling costs more than a slow guest should pay."""

    records: bytes
    lost: int
    words: Words
    missing: tuple[str, ...]

    @classmethod
    def gather(
        cls,
        readings: Iterable[Reading],
        *,
        names: Mapping[int, str],
        reasons: Mapping[int, str],
        symbol: Callable[[int], str],
        missing: tuple[str, ...],
    ) -> Evidence:
        """Return what readings show, with only those words that their story will use."""
        records: list[bytes] = []
        lost = 0
        for reading in readings:
            records += reading.records
            lost += reading.lost
        drops = {drop for record in records if (drop := drop_in(record))}
        words = Words(
            cookies={cookie: names[cookie] for cookie in set(map(cookie_in, records)) & names.keys()},
            reasons={reason: reasons[reason] for _, reason in drops if reason in reasons},
            places={address: symbol(address) for address, _ in drops},
        )
        return cls(records=b"".join(records), lost=lost, words=words, missing=missing)

    def pack(self) -> dict[str, Any]:
        """Return it in types that reports may carry from a worker."""
        words = self.words
        return {
            "records": base64.b64encode(self.records).decode(),
            "lost": self.lost,
            "words": [list(mapping.items()) for mapping in (words.cookies, words.reasons, words.places)],
            "missing": list(self.missing),
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Evidence:
        """Return what `pack` packed."""
        cookies, reasons, places = (dict(map(tuple, items)) for items in packed["words"])
        return cls(
            records=base64.b64decode(packed["records"]),
            lost=packed["lost"],
            words=Words(cookies=cookies, reasons=reasons, places=places),
            missing=tuple(packed["missing"]),
        )

    def story(self) -> Story:
        """Return the story."""
        records = (self.records[start : start + SIZE] for start in range(0, len(self.records), SIZE))
        return tell(in_order(records), self.words, lost=self.lost, missing=self.missing)


def split(events: Sequence[Event]) -> list[list[Event]]:
    """Return the events of each packet, and of each migration outside of any packet, on their own."""
    paths: list[list[Event]] = []
    for event in events:
        begins = event.kind is Kind.ARRIVED or (event.kind is Kind.MIGRATE and not event.skb)
        stranger = not paths or (bool(event.skb) != bool(paths[-1][0].skb))
        if begins or stranger:
            paths.append([])
        paths[-1].append(event)
    return paths


def _path(events: Sequence[Event], words: Words) -> Path:
    steps = [step for index, event in enumerate(events) for step in _steps(event, events[:index], words)]
    return Path(title=_title(events[0]), steps=tuple(steps))


def _title(first: Event) -> str:
    arrival = first.arrival
    if arrival is None:
        return "a listener closes" if first.kind is Kind.MIGRATE else "outside of any packet"
    protocol = {_TCP: "TCP", _UDP: "UDP"}.get(arrival.protocol, f"protocol {arrival.protocol}")
    flags = "".join(f" {name}" for bit, name in _TCP_FLAGS if arrival.tcp_flags & bit)
    source, destination = (
        f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        for address, port in (
            (arrival.source, arrival.source_port),
            (arrival.destination, arrival.destination_port),
        )
    )
    return f"{protocol}{flags} {source} > {destination}, len {arrival.length}"


def _steps(event: Event, before: Sequence[Event], words: Words) -> Iterator[Step]:  # noqa: PLR0912  # a table of sentences
    kind, name = event.kind, words.socket(event.socket)
    if kind is Kind.LOOKUP:
        yield Step("lookup", _LOOKUPS.get(event.detail, f"lookup {event.detail}"))
    elif kind is Kind.GROUP:
        yield from _group(event)
    elif kind is Kind.HELPER:
        map_ = f"{_MAPS.get(event.type, f'map type {event.type}')} {event.id}"
        answer = f"0: {name}" if not event.reason else f"{event.reason} ({_errno(-event.reason)})"
        yield Step("helper", f"bpf_sk_select_reuseport({map_}, key {event.value}) = {answer}")
    elif kind is Kind.PROGRAM:
        yield Step("program", _verdict(event, name))
    elif kind is Kind.SELECTED:
        yield Step("selected", _selected(event, before, name))
    elif kind is Kind.QUEUED:
        yield Step("queued", f"on the receive queue of {name}")
    elif kind is Kind.REQUEST:
        yield Step("request", f"kept for {name}, answered with a SYN-ACK")
    elif kind is Kind.ACCEPT:
        early = any(earlier.arrival and earlier.arrival.tcp_flags & 0x12 == 0x02 for earlier in before)
        yield Step("queued", f"on the accept queue of {name}" + (", by fast open" if early else ""))
    elif kind is Kind.COOKIE_SENT:
        yield Step("request", "none is kept: answered with a SYN cookie")
    elif kind is Kind.COOKIE_TAKEN:
        yield Step("request", f"made anew for {name}: the SYN cookie of the ACK is good")
    elif kind is Kind.MIGRATE:
        state = _STATES.get(event.type, f"state {event.type}")
        yield Step("migrate", f"a connection in {state} looks for another listener than {name}")
    elif kind is Kind.MIGRATED:
        yield Step("migrated", f"to {name}" if not event.error and event.value else "to none: it is given up")
    elif kind is Kind.DROP:
        yield Step("dropped", _dropped(event, words))
    elif kind is Kind.ICMP:
        port = (event.detail, event.flags) in _UNREACHABLE_PORT
        which = "port unreachable" if port else f"type {event.detail} code {event.flags}"
        yield Step("answered", f"with ICMP {which}")
    elif kind is Kind.RESET:
        yield Step("answered", "with RST")


def _group(event: Event) -> Iterator[Step]:
    bound = "any address" if event.reason & _ANY_ADDRESS else "one address"
    size = f"{event.members} member{'s' * (event.members != 1)} bound to {bound}"
    closed = f" and {event.closed} closed" if event.closed else ""
    connected = ", some of them connected" if event.reason & _CONNECTED else ""
    decides = "no program is attached"
    if event.reason & _HAS_PROGRAM:
        which = _PROGRAMS.get(event.type, f"type {event.type}")
        decides = f"program {event.program} ({which}) decides" if event.program else f"a {which} program decides"
    yield Step("group", f"id {event.id}: {size}{closed}{connected}; {decides}")
    place = (event.value * event.members) >> 32
    yield Step("hash", f"{event.value:#010x}, which falls on place {place} of {event.members}")


def _verdict(event: Event, name: str) -> str:
    if event.error:
        return "not SK_PASS: drop"
    return f"SK_PASS with {name}" if event.value else "SK_PASS, and no socket selected"


def _selected(event: Event, before: Sequence[Event], name: str) -> str:
    if event.error:
        return "none: the packet is to be dropped"
    if not event.value:
        return "none: the lookup goes on with the socket that it had found"
    if by_program(before):
        return f"{name}, by the program"
    ran = any(earlier.kind is Kind.PROGRAM for earlier in before)
    group = next((earlier for earlier in reversed(before) if earlier.kind is Kind.GROUP), None)
    if group is not None and group.reason & _HAS_PROGRAM and group.type != _SK_REUSEPORT:
        return f"{name}, by the place that the program returned or, where that is none, by the hash"
    return f"{name}, by the hash" + (": the program left the choice to it" if ran else "")


def by_program(before: Sequence[Event]) -> bool:
    """Tell whether the last program that ran selected a socket."""
    last = next((earlier for earlier in reversed(before) if earlier.kind is Kind.PROGRAM), None)
    return last is not None and bool(last.value) and not last.error


def _dropped(event: Event, words: Words) -> str:
    where = words.places.get(event.value, hex(event.value))
    reason = words.reasons.get(event.reason)
    if reason is None and event.reason not in _NO_REASON:
        reason = f"reason {event.reason}"
    return f"{reason} in {where}" if reason else f"in {where}; this kernel gives no reason"


def _errno(number: int) -> str:
    known = errno.errorcode.get(number)
    return f"{known}: {os.strerror(number)}" if known else f"errno {number}"

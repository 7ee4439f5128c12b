# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a story of what the witness recorded: events to one path for each packet, each a row of steps. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.interface.steps import (
    CookieAccepted,
    CookieSent,
    Dropped,
    GroupFound,
    HashComputed,
    HelperCalled,
    IcmpSent,
    ListenerClosed,
    Migrated,
    MigrationStarted,
    NoPacket,
    PacketArrived,
    ProgramReturned,
    Queued,
    RequestKept,
    ResetSent,
    SelectedBy,
    SocketLookup,
    SocketSelected,
)
from harness.interface.story import Path, Story
from harness.model.uapi import MAP_KIND, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN
from harness.trace.events import SIZE, Event, Kind, Socket, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.interface.steps import Start, Step
    from harness.interface.story import SecondRun
    from harness.trace.evidence import Evidence, Names

_TCP, _UDP = 6, 17
_TCP_FLAGS = ((TCP_SYN, "SYN"), (TCP_RST, "RST"), (TCP_FIN, "FIN"), (TCP_PSH, "PSH"), (TCP_ACK, "ACK"))
_LOOKUPS: dict[int, tuple[Literal["UDP", "TCP"], Literal["IPv4", "IPv6"], str]] = {
    1: ("UDP", "IPv4", "__udp4_lib_lookup"),
    2: ("UDP", "IPv6", "__udp6_lib_lookup"),
    3: ("TCP", "IPv4", "__inet_lookup_listener"),
    4: ("TCP", "IPv6", "inet6_lookup_listener"),
}
"""By the number that harness/trace/witness_selection.c gives each lookup."""

_STATES = {1: "ESTABLISHED", 3: "SYN_RECV", 10: "LISTEN", 12: "NEW_SYN_RECV"}  # include/net/tcp_states.h
_PORT_UNREACHABLE = {(3, 3), (1, 4)}  # type and code: RFC 792, RFC 4443
_SK_REUSEPORT = 21
_PROGRAM_TYPES = {0: "classic BPF", 1: "socket filter", _SK_REUSEPORT: "SK_REUSEPORT"}  # enum bpf_prog_type
_ANY_ADDRESS, _CONNECTED, _HAS_PROGRAM = 1, 2, 4
_NO_REASON = (0, 1, 2)  # unnumbered, SKB_CONSUMED or NOT_SPECIFIED, as the release has it


def story_of(evidence: Evidence, *, second_run: SecondRun | None = None) -> Story:
    """Return the story that evidence from a case shows; `second_run` where a failed case was run again for it."""
    records = (evidence.records[start : start + SIZE] for start in range(0, len(evidence.records), SIZE))
    return Story(
        paths=tuple(paths_of(in_order(records), evidence.names)),
        second_run=second_run,
        missing=evidence.missing,
        lost=evidence.lost,
    )


def paths_of(events: Sequence[Event], names: Names) -> Iterator[Path]:
    """Yield the paths that events, in the order of time, tell of."""
    for path in split(events):
        steps = (step for index, event in enumerate(path) for step in _steps(event, path[:index], names))
        yield Path(start=_start(path[0]), steps=tuple(steps))


def split(events: Sequence[Event]) -> list[list[Event]]:
    """Return the events of each packet, and of each migration outside of any packet, on their own."""
    paths: list[list[Event]] = []
    for event in events:
        begins = event.kind is Kind.ARRIVED or (event.kind is Kind.MIGRATE and not event.skb)
        unrelated = not paths or (bool(event.skb) != bool(paths[-1][0].skb))
        if begins or unrelated:
            paths.append([])
        paths[-1].append(event)
    return paths


def _start(first: Event) -> Start:
    arrival = first.arrival
    if arrival is None:
        return ListenerClosed() if first.kind is Kind.MIGRATE else NoPacket()
    return PacketArrived(
        protocol={_TCP: "TCP", _UDP: "UDP"}.get(arrival.protocol, f"protocol {arrival.protocol}"),
        tcp_flags=" ".join(name for bit, name in _TCP_FLAGS if arrival.tcp_flags & bit),
        source=arrival.source,
        source_port=arrival.source_port,
        destination=arrival.destination,
        destination_port=arrival.destination_port,
        length=arrival.length,
    )


def _steps(event: Event, before: Sequence[Event], names: Names) -> Iterator[Step]:  # noqa: PLR0912  # a table
    match event.kind:
        case Kind.ARRIVED:
            pass  # the path's start
        case Kind.LOOKUP:
            protocol, family, function = _LOOKUPS[event.detail]
            yield SocketLookup(protocol=protocol, family=family, function=function)
        case Kind.GROUP:
            yield from _group(event)
        case Kind.HELPER:
            yield HelperCalled(
                map_type=MAP_KIND.get(event.type, f"map type {event.type}"),
                map_id=event.id,
                key=event.value,
                result=event.reason,
                socket=None if event.reason else _name(event.socket, names),
            )
        case Kind.PROGRAM:
            verdict: Literal["SK_PASS", "SK_DROP"] = "SK_DROP" if event.error else "SK_PASS"
            yield ProgramReturned(verdict=verdict, socket=_name_of_result(event, names))
        case Kind.SELECTED:
            yield SocketSelected(socket=_name_of_result(event, names), by=_selected_by(event, before))
        case Kind.QUEUED:
            yield Queued(queue="receive", socket=_name(event.socket, names), fast_open=False)
        case Kind.REQUEST:
            yield RequestKept(socket=_name(event.socket, names))
        case Kind.ACCEPT:
            # A connection is accepted by the handshake's ACK, unless its SYN was enough.
            by_syn = any(
                earlier.arrival and earlier.arrival.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN for earlier in before
            )
            yield Queued(queue="accept", socket=_name(event.socket, names), fast_open=by_syn)
        case Kind.COOKIE_SENT:
            yield CookieSent()
        case Kind.COOKIE_TAKEN:
            yield CookieAccepted(socket=_name(event.socket, names))
        case Kind.MIGRATE:
            state = _STATES.get(event.type, f"state {event.type}")
            yield MigrationStarted(state=state, socket=_name(event.socket, names))
        case Kind.MIGRATED:
            yield Migrated(socket=_name_of_result(event, names))
        case Kind.DROP:
            yield _dropped(event, names)
        case Kind.ICMP:
            unreachable = (event.detail, event.flags) in _PORT_UNREACHABLE
            yield IcmpSent(type=event.detail, code=event.flags, port_unreachable=unreachable)
        case Kind.RESET:
            yield ResetSent()


def _group(event: Event) -> Iterator[Step]:
    has_program = bool(event.reason & _HAS_PROGRAM)
    yield GroupFound(
        id=event.id,
        members=event.members,
        closed=event.closed,
        any_address=bool(event.reason & _ANY_ADDRESS),
        connected=bool(event.reason & _CONNECTED),
        program_type=_PROGRAM_TYPES.get(event.type, f"type {event.type}") if has_program else None,
        program_id=event.program,
    )
    # reciprocal_scale() of include/linux/kernel.h
    yield HashComputed(value=event.value, position=(event.value * event.members) >> 32, members=event.members)


def _selected_by(event: Event, before: Sequence[Event]) -> SelectedBy:
    if event.error:
        return "drop"
    if not event.value:
        return "lookup"
    program = next((earlier for earlier in reversed(before) if earlier.kind is Kind.PROGRAM), None)
    if program is not None and program.value and not program.error:
        return "program"
    group = next((earlier for earlier in reversed(before) if earlier.kind is Kind.GROUP), None)
    if group is not None and group.reason & _HAS_PROGRAM and group.type != _SK_REUSEPORT:
        return "classic program or hash"
    return "hash" if program is None else "hash after program"


def _dropped(event: Event, names: Names) -> Dropped:
    reason = names.drop_reasons.get(event.reason)
    if reason is None and event.reason not in _NO_REASON:
        reason = f"reason {event.reason}"
    return Dropped(function=names.functions.get(event.value, hex(event.value)), reason=reason)


def _name(socket: Socket | None, names: Names) -> str:
    """Return what a case calls a socket or, where it has no name for it, the kernel's number."""
    if socket is None:
        return "a socket that the kernel has not numbered"
    if name := names.sockets.get(socket.cookie):
        return name
    return f"the socket with cookie {socket.cookie}" if socket.cookie else f"the socket with inode {socket.inode}"


def _name_of_result(event: Event, names: Names) -> str | None:
    """Return the name of the socket that a function of the kernel returned, None for NULL and for an error."""
    return _name(event.socket, names) if event.value and not event.error else None

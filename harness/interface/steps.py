# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps of a packet on its way to a socket, as data: one class for each kind. Pure.

A step has a kind (its class), an actor (the part of the path that takes the step) and its details (the fields: strings,
integers, booleans and None). `harness.interface.sentences` has the words for each, `harness.interface.json_form` the
JSON; `vm.report.picture` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

Actor = Literal["wire", "lookup", "group", "program", "socket"]
"""The parts of the path, in the order in which a packet meets them. "wire" stands for what never reaches a socket."""

ACTORS: tuple[Actor, ...] = get_args(Actor)


# How a path begins.


@dataclass(frozen=True, kw_only=True)
class PacketArrived:
    """The packet as its protocol received it; `length` counts from the transport header, in bytes."""

    kind: ClassVar[str] = "packet"

    protocol: str
    """"UDP" or "TCP"."""
    tcp_flags: str
    """TCP's flags by name, separated by spaces: "SYN ACK"; empty for UDP."""
    source: str
    source_port: int
    destination: str
    destination_port: int
    length: int


@dataclass(frozen=True, kw_only=True)
class ListenerClosed:
    """A listener that closes: its connections look for another one."""

    kind: ClassVar[str] = "listener_closed"


@dataclass(frozen=True, kw_only=True)
class NoPacket:
    """Anything else that happened while no packet was being received: a timer, a process."""

    kind: ClassVar[str] = "no_packet"


Start = PacketArrived | ListenerClosed | NoPacket


# What happens on the way. Sockets are named as the case names them ("member 3"), or by their number in the kernel.


@dataclass(frozen=True, kw_only=True)
class SocketLookup:
    """The protocol's lookup of a socket for the packet, in the kernel's `function`."""

    kind: ClassVar[str] = "lookup"
    actor: ClassVar[Actor] = "lookup"

    protocol: Literal["UDP", "TCP"]
    family: Literal["IPv4", "IPv6"]
    function: str


@dataclass(frozen=True, kw_only=True)
class GroupFound:
    """The reuseport group that the lookup found (struct sock_reuseport)."""

    kind: ClassVar[str] = "group"
    actor: ClassVar[Actor] = "group"

    id: int
    members: int
    closed: int
    """Listeners that have closed and still belong to the group, for their connections."""
    any_address: bool
    """Whether a member is bound to the wildcard address (`bind_inany`)."""
    connected: bool
    """Whether a member is connected (`has_conns`)."""
    program_type: str | None
    """"SK_REUSEPORT", "socket filter" or "classic BPF"; None where no program is attached."""
    program_id: int
    """0 for classic BPF, which has none."""


@dataclass(frozen=True, kw_only=True)
class HashComputed:
    """The packet's hash, 32 bits, and the member at whose position it points: reciprocal_scale(value, members)."""

    kind: ClassVar[str] = "hash"
    actor: ClassVar[Actor] = "group"

    value: int
    position: int
    members: int


@dataclass(frozen=True, kw_only=True)
class HelperCalled:
    """The program's call of bpf_sk_select_reuseport(), what it returned, and the socket that it selected."""

    kind: ClassVar[str] = "helper"
    actor: ClassVar[Actor] = "program"

    map_type: str
    map_id: int
    key: int
    """The first four bytes of the key, in the order of the machine."""
    result: int
    """0 or -errno."""
    socket: str | None


@dataclass(frozen=True, kw_only=True)
class ProgramReturned:
    """The end of the program: SK_PASS with a socket or without one, or SK_DROP."""

    kind: ClassVar[str] = "program"
    actor: ClassVar[Actor] = "program"

    verdict: Literal["SK_PASS", "SK_DROP"]
    socket: str | None


SelectedBy = Literal["program", "hash", "hash after program", "classic program or hash", "drop", "lookup"]
"""What selected the socket. Where it is none: the program dropped ("drop"), or the lookup goes on with its own."""


@dataclass(frozen=True, kw_only=True)
class SocketSelected:
    """The group's answer to the lookup (reuseport_select_sock)."""

    kind: ClassVar[str] = "selected"
    actor: ClassVar[Actor] = "group"

    socket: str | None
    by: SelectedBy


@dataclass(frozen=True, kw_only=True)
class Queued:
    """The packet, or the connection that it completes, in a socket's queue."""

    kind: ClassVar[str] = "queued"
    actor: ClassVar[Actor] = "socket"

    queue: Literal["receive", "accept"]
    socket: str
    fast_open: bool
    """Whether a SYN did it, by TCP fast open."""


@dataclass(frozen=True, kw_only=True)
class RequestKept:
    """The request that a SYN leaves with a listener, which answers with a SYN-ACK."""

    kind: ClassVar[str] = "request"
    actor: ClassVar[Actor] = "socket"

    socket: str


@dataclass(frozen=True, kw_only=True)
class CookieSent:
    """The answer to a SYN by a SYN cookie: no request is kept."""

    kind: ClassVar[str] = "cookie_sent"
    actor: ClassVar[Actor] = "wire"


@dataclass(frozen=True, kw_only=True)
class CookieAccepted:
    """The request that is made again from a valid SYN cookie in an ACK."""

    kind: ClassVar[str] = "cookie_accepted"
    actor: ClassVar[Actor] = "socket"

    socket: str


@dataclass(frozen=True, kw_only=True)
class MigrationStarted:
    """The search for another listener, for a connection of one that closes (reuseport_migrate_sock)."""

    kind: ClassVar[str] = "migrate"
    actor: ClassVar[Actor] = "group"

    state: str
    """The connection's, as in enum tcp_state: "NEW_SYN_RECV"."""
    socket: str
    """The listener that closes."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """The listener that takes the connection over; None: there is none, and the connection is given up."""

    kind: ClassVar[str] = "migrated"
    actor: ClassVar[Actor] = "socket"

    socket: str | None


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """The end of a packet that no socket receives (skb:kfree_skb)."""

    kind: ClassVar[str] = "dropped"
    actor: ClassVar[Actor] = "wire"

    function: str
    """The kernel's function that dropped it."""
    reason: str | None
    """As in enum skb_drop_reason, without its prefix; None where the kernel gives none."""


@dataclass(frozen=True, kw_only=True)
class IcmpSent:
    """The ICMP or ICMPv6 error that answers the packet."""

    kind: ClassVar[str] = "icmp"
    actor: ClassVar[Actor] = "wire"

    type: int
    code: int
    port_unreachable: bool


@dataclass(frozen=True, kw_only=True)
class ResetSent:
    """The RST that answers the packet."""

    kind: ClassVar[str] = "reset"
    actor: ClassVar[Actor] = "wire"


Step = (
    SocketLookup
    | GroupFound
    | HashComputed
    | HelperCalled
    | ProgramReturned
    | SocketSelected
    | Queued
    | RequestKept
    | CookieSent
    | CookieAccepted
    | MigrationStarted
    | Migrated
    | Dropped
    | IcmpSent
    | ResetSent
)

STARTS: dict[str, type[Start]] = {start.kind: start for start in get_args(Start)}
STEPS: dict[str, type[Step]] = {step.kind: step for step in get_args(Step)}
"""Each kind's class, by the name that it has in JSON."""

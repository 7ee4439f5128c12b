# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel keeps of the sockets on one port: sockets, groups, and the tables that a lookup walks. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.model.abi import BY_HASH
from harness.model.layout import Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.model.abi import Result
    from harness.model.life.behaviour import Behaviour
    from harness.model.life.datagram import Datagram
    from harness.model.outcome import ReplyKind

HISTORY_PORT = 9100
"""The port of a history, unless said otherwise. It is away from the ports of groups and bench."""

INIT_SOCKS = 128
"""Members that a group has room for at first (net/core/sock_reuseport.c)."""

MOST_SOCKS = 0xFFFF
"""A group's array does not become larger (U16_MAX)."""

HEIRS = 2
"""The sockarray of the program `Program.MIGRATE` among a world's."""

NO_CPU, THIS_CPU, OTHER_CPU = -1, 0, 1
"""SO_INCOMING_CPU: not set, the CPU that packets arrive on, another one."""


class State(StrEnum):
    """sk_state, as far as it matters here."""

    CLOSE = "close"
    LISTEN = "listen"
    ESTABLISHED = "established"


class Keys(StrEnum):
    """The keys of fast-open cookies that a listener has."""

    FIRST = "first"
    SECOND = "second"
    ROTATED = "second, then first"
    """The second key makes cookies, and those of the first are good as well."""


class Program(StrEnum):
    """The programs that a history attaches, most by their names in harness/model/variants.py."""

    PLACE = "filter_index"
    """The payload names the place in the group: it shows the order of the members."""
    SLOT = "reference"
    """The payload names the slot of the sockarray: it shows the slots."""
    DROP = "always_drop"
    MAP = "reference_direct"
    """The payload names the slot of the sockmap."""
    HASH = "reference_direct, sockhash"
    """The same program: the payload is the key of the sockhash."""
    MIGRATE = "migrate"
    """TCP: it says who inherits connections: whom the hash finds, a socket of its sockarray, or nobody.

    The payload of a SYN names the slot of that sockarray.
    """


@dataclass(eq=False, slots=True)
class Group:
    """`struct sock_reuseport`: the members in the kernel's order, and what they share."""

    bind_inany: bool
    members: list[Socket] = field(default_factory=list)
    """socks[0 … num_socks)"""
    closed: list[Socket] = field(default_factory=list)
    """The closed section at the array's end, the oldest first: listeners that were shut down and may migrate."""
    room: int = INIT_SOCKS
    """max_socks"""
    program: Program | None = None
    has_conns: bool = False
    """Set by connect() of a member and never cleared."""
    incoming_cpu: int = 0
    """Members with SO_INCOMING_CPU."""
    sent_cookie: bool = False
    """TCP: whether a member has sent a SYN cookie, so that one is looked for in an ACK (synq_overflow_ts)."""


@dataclass(eq=False, slots=True)
class Socket:
    """`struct sock`, named by a number."""

    number: int
    protocol: Protocol
    family: Family
    reuseport: bool
    v6only: bool = False
    device: bool = False
    """Whether it is bound to the device that packets come from (SO_BINDTODEVICE)."""
    user: int = 0
    cpu: int = NO_CPU
    """sk_incoming_cpu: SO_INCOMING_CPU, or the CPU on which a connected socket last received."""
    state: State = State.CLOSE
    hashed: bool = False
    """Whether a lookup can find it: UDP since bind(2), TCP since listen(2)."""
    specific: bool = False
    """Whether the address that it receives on is the server's own; else it is the wildcard (sk_rcv_saddr)."""
    bound_specific: bool = False
    """SOCK_BINDADDR_LOCK: bind(2) gave it that address, and a disconnect leaves it."""
    peer: int | None = None
    """UDP: the port of the peer that it is connected to."""
    knows_address: bool = False
    """Whether it has a peer's address. connect() over IPv6 sets it, and a disconnect leaves it (sk_v6_daddr)."""
    filed_under: tuple[bool, int | None] | None = None
    """Its place in the four-tuple hash: the address and peer that it was filed under; None if it is not there."""
    group: Group | None = None
    """sk_reuseport_cb"""
    slot: tuple[int, int] | None = None
    """The sockarray that holds it, and the slot there (sk_user_data)."""
    queued: int = 0
    """TCP: requests that are counted as its own (icsk_accept_queue.qlen). K45 makes that less than none."""
    fits: bool = True
    """Whether a sockarray takes sockets of its kind: those of TCP and UDP."""
    fast_open: int = 0
    """TCP: how many connections may be open before their ACK, with data of the SYN (TCP_FASTOPEN, max_qlen)."""
    keys: Keys = Keys.FIRST
    """TCP: the keys of its fast-open cookies (TCP_FASTOPEN_KEY)."""
    pending: int = 0
    """TCP: such connections that are counted, without those of the step itself. K30 makes that less than none."""
    pending_is_known: bool = True


@dataclass(eq=False, slots=True)
class Request:
    """`struct request_sock`: a connection whose ACK is still to come."""

    listener: Socket | None
    """rsk_listener, whom the request keeps in its group's closed section; None: a SYN cookie, of which nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What can be seen of what one segment of TCP leads to."""

    reply: ReplyKind | None = None
    takers: frozenset[int] = frozenset()
    """The listeners one of which accepts the connection; empty: it is not complete, or is no more."""
    data_taken: bool = False
    """Whether the SYN-ACK acknowledges the SYN's data (fast open)."""
    cookie: bytes = b""
    """The fast-open cookie in the SYN-ACK; empty for none."""


def _lowest_hashes(_: Datagram) -> tuple[int, int]:
    return 0, 0


@dataclass(eq=False, slots=True)
class World:
    """All sockets on one port of one protocol, and the tables of the kernel that have them."""

    behaviour: Behaviour
    protocol: Protocol = Protocol.UDP
    migrates: bool = False
    """TCP: net.ipv4.tcp_migrate_req, from Linux 5.14 on."""
    port: int = HISTORY_PORT
    can_migrate: bool = False
    """Whether the kernel has that sysctl."""
    cookies: bool = False
    """TCP: net.ipv4.tcp_syncookies is 2: every SYN is answered with a cookie."""
    needs_cookie: bool = False
    """TCP: whether fast open needs a cookie (net.ipv4.tcp_fastopen without 0x200)."""
    has_sockmap: bool = False
    """Whether the kernel selects from a sockmap and a sockhash, of both protocols."""
    has_migrate: bool = False
    """TCP: whether the kernel asks programs who inherits connections."""
    names: int = BY_HASH
    """Whom the program `Program.MIGRATE` has inherit: a slot of its sockarray, or `BY_HASH`, `REFUSE`."""
    sockmap: dict[int, Socket] = field(default_factory=dict)
    """The sockmap of the program `Program.MAP`, which all groups share: slots to sockets."""
    sockhash: dict[int, Socket] = field(default_factory=dict)
    """The sockhash of the program `Program.HASH`, likewise: keys to sockets."""
    foreign: dict[str, Socket] = field(default_factory=dict)
    """Sockets of another protocol, family or port that a history puts into slots, by their kind."""
    requests: dict[Datagram, Request] = field(default_factory=dict)
    """TCP: the connections whose ACK is still to come, by their SYN."""
    seen: Seen | None = None
    """TCP: what the last step led to, if it was a segment of such a connection."""
    counted: Counter[Result] = field(default_factory=Counter)
    """What programs counted in the lookups of such segments."""
    hash_of: Callable[[Datagram], tuple[int, int]] = _lowest_hashes
    """The kernel's two hashes of a packet (`Lookup`): the key is a secret, so that is an input."""
    sockets: dict[int, Socket] = field(default_factory=dict)
    primary: list[Socket] = field(default_factory=list)
    """UDP: the hash by port, in the order of the chain: the newest first, but IPv6's with SO_REUSEPORT last."""
    wild: list[Socket] = field(default_factory=list)
    """The hash by port and address: the chain of the wildcards, which both families share, in its order."""
    ipv4: list[Socket] = field(default_factory=list)
    """The chain of the server's IPv4 address."""
    ipv6: list[Socket] = field(default_factory=list)
    """The chain of the server's IPv6 address."""
    connected: list[Socket] = field(default_factory=list)
    """UDP: the hash by four-tuple, the newest first."""
    sockarrays: tuple[dict[int, Socket], ...] = field(default_factory=lambda: ({}, {}, {}))
    """The two sockarrays of the program `Program.SLOT`, which all groups share: slots to sockets.

    The last one is of `Program.MIGRATE` (`HEIRS`).
    """
    inner: int = 0
    """Which of them was put into the program's outer map last."""
    inner_is_there: bool = True
    """Whether it still is there."""
    taken: Counter[str] = field(default_factory=Counter)
    """How often each transition was taken."""

    @property
    def slots(self) -> dict[int, Socket]:
        """Return the slots of the sockarray that was put into the outer map last: what steps fill and empty."""
        return self.sockarrays[self.inner]

    def is_linked(self, socket: Socket) -> bool:
        """Return whether a socket is in the sockmap or the sockhash (`sk_psock`)."""
        return any(held is socket for slots in (self.sockmap, self.sockhash) for held in slots.values())

    def unlink(self, socket: Socket) -> None:
        """`sock_map_remove_links`: take a socket out of the sockmap and the sockhash, as it closes."""
        if self.is_linked(socket):
            self.taken["sock_map_remove_links"] += 1
            for slots in (self.sockmap, self.sockhash):
                for slot in [slot for slot, held in slots.items() if held is socket]:
                    del slots[slot]

    def bucket(self, family: Family, *, specific: bool) -> list[Socket]:
        """Return the chain of an address (`ipv4_portaddr_hash`, `ipv6_portaddr_hash`)."""
        if not specific:
            return self.wild
        return self.ipv4 if family is Family.IPV4 else self.ipv6

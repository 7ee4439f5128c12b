# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How a group and its program stand when a packet arrives: everything the outcome depends on but the packet."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.uapi import ETH_P_IP, ETH_P_IPV6

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP_SIZE = 32
"""Members of a group unless a case says otherwise; the kernel's own test has as many."""

GROUP_PORT = 7000


class Protocol(StrEnum):
    """Name the two transports whose sockets form reuseport groups."""

    UDP = "udp"
    TCP = "tcp"

    @property
    def number(self) -> int:
        """Return IPPROTO_UDP or IPPROTO_TCP."""
        return socket.IPPROTO_UDP if self is Protocol.UDP else socket.IPPROTO_TCP

    @property
    def socket_type(self) -> socket.SocketKind:
        """Return SOCK_DGRAM or SOCK_STREAM."""
        return socket.SOCK_DGRAM if self is Protocol.UDP else socket.SOCK_STREAM


class Family(StrEnum):
    """Name the two address families, with the addresses (RFC 5737, RFC 3849) that either end of the wire has."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def address_family(self) -> socket.AddressFamily:
        """Return AF_INET or AF_INET6."""
        return socket.AF_INET if self is Family.IPV4 else socket.AF_INET6

    @property
    def eth_protocol(self) -> int:
        """Return ETH_P_IP or ETH_P_IPV6 in host order."""
        return ETH_P_IP if self is Family.IPV4 else ETH_P_IPV6

    @property
    def server(self) -> str:
        """Return the address of the end under test."""
        return "192.0.2.1" if self is Family.IPV4 else "2001:db8::1"

    @property
    def peer(self) -> str:
        """Return the address that crafted packets come from; nobody owns it."""
        return "192.0.2.9" if self is Family.IPV4 else "2001:db8::9"

    @property
    def any(self) -> str:
        """Return the wildcard address."""
        return "0.0.0.0" if self is Family.IPV4 else "::"


class Bind(StrEnum):
    """Tell whether the members are bound to the wildcard address or to the server's own."""

    ANY = "any"
    SPECIFIC = "specific"


class InnerMap(StrEnum):
    """Name the map types that `bpf_sk_select_reuseport` takes; TCP and UDP members fit in each."""

    SOCKARRAY = "sockarray"
    SOCKMAP = "sockmap"
    SOCKHASH = "sockhash"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Say what a group is made of and stays while cases use it."""

    protocol: Protocol
    family: Family
    bind: Bind
    inner_map: InnerMap

    def __str__(self) -> str:
        return f"{self.protocol}-{self.family}-{self.bind}-{self.inner_map}"

    @property
    def address(self) -> str:
        """Return the address that members are bound to."""
        return self.family.any if self.bind is Bind.ANY else self.family.server


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Say how one group stands: its members in the kernel's order, the inner map's slots, the server's settings.

    A member is named by the number it was created with, for as long as it lives.
    """

    shape: Shape
    members: tuple[int, ...]
    """In the order of the kernel's array: bind order for UDP, listen order for TCP (socket(7))."""
    slots: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Inner map: index to member; an index that is not here is empty."""
    foreign: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Inner map: index of a socket that is no member to what the helper answers for it (-errno)."""
    program: str | None = "reference"
    """The variant that decides, or None where none is attached."""
    size: int = GROUP_SIZE
    """size_map: how many members a key is spread over, whether they are there or not."""
    state: int = 0
    """state_map: what the program remembers from one packet to the next."""
    table: tuple[int, ...] = ()
    """table_map: what the host loaded for the program to look up."""
    cpu: int = 0
    """The CPU that the wire is bound to, on which every run of the program takes place."""
    inner_present: bool = True
    """Whether outer_map[0] holds the inner map."""
    index_override: int = -1
    """tmp_index_ovr_map[0]; -1 for none."""
    fast_open: bool = False
    """TCP: net.ipv4.tcp_fastopen lets data in a SYN through without a cookie."""
    syncookies: bool = False
    """TCP: net.ipv4.tcp_syncookies is 2, so that a SYN leaves nothing behind but its SYN-ACK."""

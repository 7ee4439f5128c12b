# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The state of a group and its program as a packet arrives: all that the outcome depends on but the packet. Pure."""

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
"""Members of a group, unless a case asks for another number; the kernel's own test has as many."""

GROUP_PORT = 7000


class Protocol(StrEnum):
    """The two transports whose sockets form reuseport groups."""

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
    """The two address families, with the addresses (RFC 5737, RFC 3849) at both ends of the wire."""

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
        """Return the source address of crafted packets; no interface has it."""
        return "192.0.2.9" if self is Family.IPV4 else "2001:db8::9"

    @property
    def any(self) -> str:
        """Return the wildcard address."""
        return "0.0.0.0" if self is Family.IPV4 else "::"


class Bind(StrEnum):
    """The address that members are bound to: the wildcard or the server's own."""

    ANY = "any"
    SPECIFIC = "specific"


class InnerMap(StrEnum):
    """The map types that `bpf_sk_select_reuseport` takes; each can hold TCP and UDP members."""

    SOCKARRAY = "sockarray"
    SOCKMAP = "sockmap"
    SOCKHASH = "sockhash"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The properties of a group that no case changes."""

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
    """The state of one group: its members in the kernel's order, the inner map's slots, the server's settings.

    A member is named by a number that it keeps as long as it lives.
    """

    shape: Shape
    members: tuple[int, ...]
    """In the order of the kernel's array: UDP sockets join it at bind(2), TCP sockets at listen(2)."""
    slots: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """The inner map: index to member; any other index is empty."""
    foreign: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """The inner map: index of a socket that is no member to the error (-errno) that selecting it returns."""
    program: str | None = "reference"
    """The attached variant's name, None if none is attached."""
    size: int = GROUP_SIZE
    """size_map: the number of members that keys are spread over, whether all of them are there or not."""
    state: int = 0
    """state_map: the number that the program keeps from packet to packet."""
    table: tuple[int, ...] = ()
    """table_map: the entries that a case loaded for the program to look up."""
    cpu: int = 0
    """The CPU that the wire is bound to and the program runs on."""
    inner_present: bool = True
    """Whether outer_map[0] holds the inner map."""
    index_override: int = -1
    """tmp_index_ovr_map[0]; -1 for none."""
    fast_open: bool = False
    """TCP: net.ipv4.tcp_fastopen accepts data in a SYN without a cookie."""
    syncookies: bool = False
    """TCP: net.ipv4.tcp_syncookies is 2: every SYN is answered with a cookie, and no request is kept."""

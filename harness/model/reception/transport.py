# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What UDP and TCP check before a socket is looked up, and what they answer where none is. Pure.

net/ipv4/udp.c `__udp4_lib_rcv`, net/ipv6/udp.c `__udp6_lib_rcv`, net/ipv4/tcp_ipv4.c `tcp_v4_rcv` and its IPv6 twin.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.model.layout import Family
from harness.model.malformed import CHECKSUM_BREAK
from harness.model.reception.sums import is_sound_for

if TYPE_CHECKING:
    from harness.model.reception.state import Arrived, Lost, Reception

_UDP_HEADER, _TCP_HEADER = 8, 20


@dataclass(frozen=True)
class Segment:
    """A datagram or segment for which a socket is looked up."""

    arrived: Arrived
    sound: bool
    """Whether its checksum is right. A wrong one of a long packet is found after the lookup."""
    has_checksum: bool = True

    @property
    def source_port(self) -> int:
        """Return the source port."""
        return int.from_bytes(self.arrived.data[:2], "big")

    @property
    def destination_port(self) -> int:
        """Return the destination port."""
        return int.from_bytes(self.arrived.data[2:4], "big")

    @property
    def flags(self) -> int:
        """TCP: return the flags."""
        return self.arrived.data[13]

    @property
    def header(self) -> int:
        """Return the header's length."""
        return self.arrived.data[12] >> 4 << 2 if self.arrived.protocol == socket.IPPROTO_TCP else _UDP_HEADER

    @property
    def payload(self) -> bytes:
        """Return what is behind the header."""
        return self.arrived.data[self.header :]


def receive(state: Reception, arrived: Arrived) -> Segment | Lost:
    """Return what is looked up."""
    return (_segment if arrived.protocol == socket.IPPROTO_TCP else _datagram)(state, arrived)


def _datagram(state: Reception, arrived: Arrived) -> Segment | Lost:
    """`__udp4_lib_rcv`, `__udp6_lib_rcv`: cut the datagram to the length that its header states.

    Over IPv6 a length of zero is that of a jumbogram (RFC 2675), except where the kernel has K28.
    """
    data = arrived.data
    function = "__udp4_lib_rcv" if arrived.family is Family.IPV4 else "__udp6_lib_rcv"
    if len(data) < _UDP_HEADER:
        return state.lose(f"{function}: too short")
    stated = int.from_bytes(data[4:6], "big")
    if arrived.family is Family.IPV6 and stated == 0 and not state.behaviour.no_jumbograms:
        state.taken[f"{function}: jumbogram"] += 1
        stated = len(data)
    if not _UDP_HEADER <= stated <= len(data):
        return state.lose(f"{function}: length")
    has_checksum = any(data[6:8])
    if stated < len(data):
        arrived = replace(arrived, data=data[:stated])
    made = _summed(arrived, has_checksum=has_checksum)
    if not made.sound and stated <= CHECKSUM_BREAK:
        return state.lose(f"{function}: checksum")
    state.taken[function] += 1
    return made


def _segment(state: Reception, arrived: Arrived) -> Segment | Lost:
    """`tcp_v4_rcv`, `tcp_v6_rcv`."""
    data = arrived.data
    function = "tcp_v4_rcv" if arrived.family is Family.IPV4 else "tcp_v6_rcv"
    if len(data) < _TCP_HEADER:
        return state.lose(f"{function}: too short")
    if not _TCP_HEADER <= data[12] >> 4 << 2 <= len(data):
        return state.lose(f"{function}: data offset")
    made = _summed(arrived, has_checksum=True)
    if not made.sound and len(data) <= CHECKSUM_BREAK:
        return state.lose(f"{function}: checksum")
    state.taken[function] += 1
    return made


def _summed(arrived: Arrived, *, has_checksum: bool) -> Segment:
    sound = not has_checksum or is_sound_for(arrived.protocol, arrived.source, arrived.destination, arrived.data)
    return Segment(arrived, sound, has_checksum)

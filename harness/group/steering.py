# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a restart's strategies attach to a group: nothing, a filter by place, or a program by slot."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

from harness.loader import instructions as bpf
from harness.loader.classic_text import read_classic
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.loader.program import attach_classic
from harness.model.packets import TRANSPORT_HEADER
from harness.model.restart import Strategy
from harness.model.uapi import SO_ATTACH_REUSEPORT_EBPF

if TYPE_CHECKING:
    from harness.model.restart import Plan

MOST_MEMBERS = 120
"""Of one generation: a member's number is one byte of a packet."""

KNOWN = 0x40
"""The first byte of packets whose second is the number of the member that knows the client."""

_BY_PLACE = """
        ldb [0]
        jne #0x40, hash
        ldb [1]
        ret a
hash:   ret #0xffffffff
"""


class Steering(Protocol):
    """What selects the sockets: it is attached to a group, and told of members by number."""

    def attach(self, member: socket.socket) -> None:
        """Attach it to the member's group."""

    def put(self, index: int, fileno: int) -> None:
        """Put a member's socket into the slot of its number."""

    def close(self) -> None:
        """Let go of it; a group keeps what it uses."""


def steering(plan: Plan) -> Steering:
    """Return what a strategy of the harness's own attaches. The caller closes it."""
    if plan.strategy is Strategy.ORDER:
        return _ByPlace()
    return _BySlot(plan) if plan.strategy is Strategy.SLOTS else _ByHash()


class _ByHash:
    """Nothing: the hash decides."""

    def attach(self, member: socket.socket) -> None:
        """Attach nothing."""

    def put(self, index: int, fileno: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _ByPlace(_ByHash):
    """A classic filter that returns the number in the packet, which is a place in the group."""

    def attach(self, member: socket.socket) -> None:
        """Attach the filter."""
        attach_classic(member, read_classic(_BY_PLACE))


class _BySlot(_ByHash):
    """A program that selects the slot in the packet from a sockarray, and leaves to the hash what is in no slot."""

    def __init__(self, plan: Plan) -> None:
        self._slots = create_map("sockarray", max_entries=2 * MOST_MEMBERS)
        self._fd = load_instructions("sk_reuseport", _select_by_slot(self._slots.fd, TRANSPORT_HEADER[plan.protocol]))

    def attach(self, member: socket.socket) -> None:
        """Attach the program."""
        member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, self._fd)

    def put(self, index: int, fileno: int) -> None:
        """Put a socket into a slot."""
        self._slots.put(index, fileno)

    def close(self) -> None:
        """Let go of the program and its map."""
        self._slots.close()
        os.close(self._fd)


def _select_by_slot(slots: int, start: int) -> bytes:
    """Return the program: payload[0] == 0x40 means that payload[1] is a slot."""
    select = b"".join((
        bpf.load(1, bpf.R5, bpf.R2, start + 1),
        bpf.store_register(4, bpf.R10, bpf.R5, -4),
        bpf.map_of(bpf.R2, slots),
        bpf.copy(bpf.R3, bpf.R10),
        bpf.add(bpf.R3, -4),
        bpf.move(bpf.R4, 0),
        bpf.call(bpf.SELECT_REUSEPORT),
    ))  # fmt: skip
    known = b"".join((
        bpf.load(1, bpf.R5, bpf.R2, start),
        bpf.skip_unless_equal(bpf.R5, KNOWN, len(select) // 8),
        select,
    ))  # fmt: skip
    return b"".join((
        bpf.load(8, bpf.R2, bpf.R1, 0),  # data
        bpf.load(8, bpf.R3, bpf.R1, 8),  # data_end
        bpf.copy(bpf.R4, bpf.R2),
        bpf.add(bpf.R4, start + 2),
        bpf.skip_if_greater(bpf.R4, bpf.R3, len(known) // 8),
        known,
        bpf.verdict(1),
    ))  # fmt: skip

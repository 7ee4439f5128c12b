# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a case imports: marks and numbers that many cases share, the types of the fixtures, short computations.

What `__all__` names is for cases in any repository, and changes with the package's version alone (docs/ten-minutes.md).
The rest is for the cases of this project, and may change at any time.
"""
# ruff: noqa: PLC0414 - `import X as X` is how a module hands a name on

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from harness.kernel.release import Release
from harness.model.layout import Bind, InnerMap
from harness.model.layout import Family as Family
from harness.model.layout import Protocol as Protocol
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from harness.group.bench import Bench as Bench
    from harness.group.delivery import Delivery as Delivery
    from harness.group.delivery import Handshake as Handshake
    from harness.group.own_program import OwnProgram as OwnProgram
    from harness.group.protocols import AttachReference as AttachReference
    from harness.group.protocols import DeliverTo as DeliverTo
    from harness.group.protocols import LoadProgram as LoadProgram
    from harness.group.protocols import MakeCommand as MakeCommand
    from harness.group.protocols import MakeGroup as MakeGroup
    from harness.group.protocols import RecordProperty as RecordProperty
    from harness.group.reuseport_group import ReuseportGroup as ReuseportGroup
    from harness.loader.program import Program as Program
    from harness.model.abi import Context
    from harness.model.outcome import Selection
    from harness.model.packets import Packet as Packet
    from harness.plugins.histories import Histories as Histories
    from harness.plugins.histories import History as History
    from harness.plugins.lives import LivePair as LivePair
    from harness.plugins.lives import TwoLives as TwoLives
    from harness.plugins.packets import PacketCampaign as PacketCampaign
    from harness.plugins.packets import Packets as Packets
    from harness.wire.veth import Wire as Wire
else:

    def __getattr__(name: str) -> object:
        """Import a type of `_TYPES` when it is asked for: scapy, which they need, takes a second to import."""
        if name not in _TYPES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_TYPES[name]), name)


__all__ = ["Bench", "Family", "OwnProgram", "Packet", "Protocol", "each_family", "each_protocol", "requires"]

_TYPES = {
    "Bench": "harness.group.bench",
    "OwnProgram": "harness.group.own_program",
    "Packet": "harness.model.packets",
    # which the cases import that a campaign prints
    "History": "harness.plugins.histories",
    "LivePair": "harness.plugins.lives",
    "Packets": "harness.plugins.packets",
}

promise = pytest.mark.promise
ledger = pytest.mark.ledger
programs = pytest.mark.programs
requires = pytest.mark.requires
shapes = pytest.mark.shapes

# For cases on the bench: each value of an argument.
each_protocol = pytest.mark.parametrize("protocol", Protocol)
each_family = pytest.mark.parametrize("family", Family)
each_address = pytest.mark.parametrize("specific", [False, True], ids=["wildcard", "specific"])

# For cases on a group: the shapes that they are for.
udp = shapes(protocol=Protocol.UDP)
tcp = shapes(protocol=Protocol.TCP)
ipv4 = shapes(family=Family.IPV4)
ipv6 = shapes(family=Family.IPV6)
on_wildcard = shapes(bind=Bind.ANY)
in_sockarray = shapes(inner_map=InnerMap.SOCKARRAY)


INITIAL_SIZE = 128
"""Members that a group has room for before its array grows (net/core/sock_reuseport.c, INIT_SOCKS)."""

FOUR_TUPLE_HASH = Release(6, 13)
"""From here on connect() files a UDP socket by its four-tuple, and takes it out of its group (78c91ae2c6de)."""

ANOTHER_USER = 65534
"""The number of a user who is not root."""


def returning(value: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the instructions of a classic BPF program that returns a number, and does nothing else."""
    return ((0x06, 0, 0, value),)


def place_by_hash(hash_: int | None, members: int) -> int:
    """Return the place in the group on which a hash falls: hash × members ÷ 2^32 (`reciprocal_scale`).

    Raises AssertionError without a hash.
    """
    assert hash_ is not None, "the program recorded no hash"
    return hash_ * members >> 32


def recorded(source: Program | Selection) -> Context:
    """Return what the program recorded of the last packet, or of the packet that was decided so.

    Raises AssertionError if it did not run.
    """
    context = source.context if isinstance(source, Delivered | Dropped) else source.context()[0]
    assert context is not None, "the program recorded nothing: it did not run"
    return context

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The signatures of the fixtures that are functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Unpack

from harness.model.layout import GROUP_SIZE, InnerMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.layout import Shape
    from harness.model.packets import Packet, PacketFields

RecordProperty = Callable[[str, object], None]
"""pytest's fixture `record_property`."""


class MakeCommand(Protocol):
    """A function that makes a packet whose payload asks for a member by its index."""

    def __call__(
        self, index: int, *, pass_on_failure: bool = False, more: bytes = b"", **fields: Unpack[PacketFields]
    ) -> Packet:
        """Return the packet; `more` follows the command, `pass_on_failure` leaves an empty slot to the hash."""


class LoadProgram(Protocol):
    """A function that loads a variant of harness/model/variants.py by its name."""

    def __call__(self, name: str, *, inner_map: InnerMap = InnerMap.SOCKARRAY, size: int = GROUP_SIZE) -> Program:
        """Return the program, with an inner map of `size` slots; BpfError if the kernel refuses it."""


class AttachReference(Protocol):
    """A function that attaches the reference program to a group of the bench and fills its inner map."""

    def __call__(
        self, members: Sequence[int], *, slots: int | None = None, inner_map: InnerMap = InnerMap.SOCKARRAY
    ) -> Program:
        """Attach through the first member; put member N into slot N of `slots` (as many as members)."""


class MakeGroup(Protocol):
    """A function that makes one more group, on a port of its own."""

    def __call__(
        self, shape: Shape, *, program: str | Program = "reference", size: int = GROUP_SIZE, slots: int | None = None
    ) -> ReuseportGroup:
        """Return a group of `size` members over an inner map of `slots` (as many as members)."""


class DeliverTo(Protocol):
    """A function that makes the `deliver` of a group."""

    def __call__(self, group: ReuseportGroup, *bystanders: ReuseportGroup) -> Delivery:
        """Return what delivers to the group; the bystanders must stay empty."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A wire and groups on it, for what is measured in this process."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from harness.group.reuseport_group import ReuseportGroup
from harness.loader.compiler import compile_variants
from harness.loader.program import Program
from harness.model.layout import GROUP_PORT, GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.variants import VARIANTS
from harness.wire.veth import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.SPECIFIC, inner_map=InnerMap.SOCKARRAY)


class Scene:
    """A wire, and the groups that were made on it."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self._objects = compile_variants()
        self.wire = Wire()
        undo.callback(self.wire.close)

    def loaded(self, variant: str, *, size: int = GROUP_SIZE) -> Program:
        """Return a loaded program, which the caller closes."""
        return Program(VARIANTS[variant], self._objects[variant], inner_map=SHAPE.inner_map, size=size)

    def new_group(self, program: Program, *, port: int = GROUP_PORT) -> ReuseportGroup:
        """Return a group of as many members as its program has slots, which the caller closes."""
        return ReuseportGroup(SHAPE, program, size=program.size, settings=self.wire.settings, port=port)

    def group(self, variant: str, *, size: int = GROUP_SIZE, port: int = GROUP_PORT) -> ReuseportGroup:
        """Return a group with a program, both until the scene ends."""
        program = self._undo.enter_context(self.loaded(variant, size=size))
        group = self.new_group(program, port=port)
        self._undo.callback(group.close)
        return group

    def connect_beside(self, group: ReuseportGroup) -> None:
        """Have a socket join a group that is connected to somebody else, until the scene ends.

        Were it bound to the wildcard, connecting would take it out of the group (`udp_lib_rehash`).
        """
        connected = socket.socket(SHAPE.family.address_family, SHAPE.protocol.socket_type)
        self._undo.callback(connected.close)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        connected.bind((SHAPE.address, group.port))
        connected.connect((SHAPE.family.peer, 1))


@contextmanager
def scene() -> Iterator[Scene]:
    """Make a wire; close it, and what was made on it, however the context ends."""
    with ExitStack() as undo:
        yield Scene(undo)

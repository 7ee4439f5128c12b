# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The maps of sockets that a history fills, on the kernel under test."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from harness.group.cookies import cookie_of
from harness.loader.bindings import BpfError
from harness.model.abi import native_number
from harness.model.life.slots import SLOTS
from harness.model.life.state import Program

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from harness.loader import program as loaded
    from harness.loader.maps import Map

_PROGRAMS = (Program.MAP, Program.HASH, Program.MIGRATE)
"""Those with a map of sockets of their own."""


class SocketMaps:
    """The maps of a history's programs. Sockets close by themselves; `restore` puts the outer map back."""

    def __init__(self, programs: Mapping[Program, loaded.Program], sockarrays: Sequence[Map]) -> None:
        """`sockarrays` are the two that the outer map may hold; the first one is in it."""
        self._programs, self._sockarrays = programs, sockarrays
        self._inner, self._changed = 0, False  # the sockarray in the outer map, and whether that was touched
        self._numbers: dict[int, int] = {}  # a cookie to a history's number

    @property
    def sockarray(self) -> Map:
        """Return the sockarray that was put into the outer map last."""
        return self._sockarrays[self._inner]

    @property
    def heirs(self) -> Map:
        """Return the sockarray of the program that is asked who inherits connections."""
        return self._map_of(Program.MIGRATE)

    @property
    def sockmap(self) -> Map:
        """Return the sockmap."""
        return self._map_of(Program.MAP)

    @property
    def sockhash(self) -> Map:
        """Return the sockhash."""
        return self._map_of(Program.HASH)

    def put(self, made: socket.socket, number: int, slots: Map, slot: int, flags: int) -> None:
        """Put a socket, known by a number, into a slot; BpfError carries the kernel's errno."""
        self._numbers[cookie_of(made)] = number
        slots.put(slot, made.fileno(), flags=flags)

    def held(self, slots: Map) -> dict[int, int]:
        """Return what a map holds: slots to the numbers of sockets, -1 for one that nobody knows."""
        values = {index: slots.at(index) for index in range(SLOTS)}
        return {
            index: self._numbers.get(native_number(value), -1) for index, value in values.items() if value is not None
        }

    def swap(self) -> None:
        """Put the other sockarray into the outer map."""
        self._programs[Program.SLOT].insert_inner_map(self._sockarrays[1 - self._inner])
        self._inner, self._changed = 1 - self._inner, True

    def withdraw(self) -> None:
        """Leave the outer map without any; BpfError carries the kernel's errno."""
        self._changed = True
        self._programs[Program.SLOT].withdraw_inner()

    def restore(self) -> None:
        """Put the first sockarray into the outer map again, if that was touched."""
        if self._changed:
            self._programs[Program.SLOT].insert_inner_map(self._sockarrays[0])

    def empty(self) -> None:
        """Empty every map: a socket that the kernel did not let go of may still be there."""
        mapped = (self._map_of(program) for program in _PROGRAMS if program in self._programs)
        for slots in (*self._sockarrays, *mapped):
            for slot in range(SLOTS):
                with suppress(BpfError):  # nothing is there
                    slots.remove(slot)

    def _map_of(self, program: Program) -> Map:
        made = self._programs[program].inner
        assert made is not None, "the program selects from a map"
        return made

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The slots of a group's inner map: change them, put them back, and compare them with what the kernel holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.abi import native_number
from harness.model.uapi import BPF_NOEXIST

if TYPE_CHECKING:
    import socket

    from harness.group.members import Members
    from harness.loader.maps import Map
    from harness.loader.program import Program


class Slots:
    """The slots of the inner map that a program has for one group, and what the group put into each.

    Raises ValueError if the program names its one map itself and another group uses that.
    """

    def __init__(self, program: Program, *, port: int) -> None:
        self._program = program
        self.inner = program.inner_for_group()
        """The map; None for programs that select from none."""
        self.inner_present = not program.variant.outer_by_port
        """Whether the outer map holds it."""
        self.members: dict[int, int] = {}
        """Index to the member in that slot; an index that is not here is empty."""
        self.foreign: dict[int, int] = {}
        """Index of a socket of another group to the helper's answer for it (-errno)."""
        self._outer_key = port if program.variant.outer_by_port else 0
        self._checked = False

    def touch(self) -> None:
        """Have `restore` look at the map again: something may have changed it."""
        self._checked = False

    def clear(self, index: int) -> None:
        """Empty a slot."""
        self.touch()
        self._map.remove(index)
        del self.members[index]

    def set(self, index: int, member: int, made: socket.socket) -> None:
        """Put a member into an empty slot."""
        self._put(index, made)
        self.members[index] = member

    def set_foreign(self, index: int, foreign: socket.socket, *, error: int) -> None:
        """Put a socket of another group into an empty slot; the helper answers `error` for it."""
        self._put(index, foreign)
        self.foreign[index] = error

    def forget(self, member: int) -> None:
        """Take note that the kernel emptied a member's slots, as it does when the socket closes."""
        self.touch()
        self.members = {index: held for index, held in self.members.items() if held != member}

    def withdraw_inner_map(self) -> None:
        """Leave the outer map without the inner one."""
        self.touch()
        self._program.withdraw_inner(key=self._outer_key)
        self.inner_present = False

    def restore(self, members: Members) -> None:
        """Put member N into slot N, and the inner map into the outer one, if anything touched them.

        Raises RuntimeError if the kernel's map does not hold that then.
        """
        if self.inner is None or self._checked:
            return
        if not self.inner_present:
            self._program.insert_inner_map(self._map, key=self._outer_key)
            self.inner_present = True
        for index in list(self.foreign):
            self._map.remove(index)
            del self.foreign[index]
        for index, member in list(self.members.items()):
            if index != member:
                self.clear(index)
        for member in members.order:
            if member not in self.members:
                self.set(member, member, members[member])
        self.check(members)
        self._checked = True

    def check(self, members: Members) -> None:
        """Raise RuntimeError unless the kernel's map holds the members that the group put there."""
        if self.inner is None:
            return
        expected = {index: members.cookie(member) for index, member in self.members.items()}
        if (found := self.cookies()) != expected:
            raise RuntimeError(f"the inner map holds cookies {found} where it should hold {expected}")

    def cookies(self) -> dict[int, int]:
        """Return what the kernel's map holds: index to socket cookie."""
        values = {index: self._map.at(index) for index in range(self._program.size)}
        return {index: native_number(value) for index, value in values.items() if value is not None}

    def _put(self, index: int, made: socket.socket) -> None:
        self.touch()
        self._map.put(index, made.fileno(), flags=BPF_NOEXIST)

    @property
    def _map(self) -> Map:
        assert self.inner is not None, f"{self._program.variant.name} has no map of sockets"
        return self.inner

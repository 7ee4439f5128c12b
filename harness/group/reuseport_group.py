# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A reuseport group on the kernel under test: make it, change it as cases need, and put it back."""

from __future__ import annotations

import socket
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.group.arrivals import Arrivals
from harness.group.members import Members
from harness.group.slots import Slots
from harness.model.abi import NO_OVERRIDE
from harness.model.layout import GROUP_PORT, Layout, Shape
from harness.model.uapi import SO_DETACH_REUSEPORT_BPF
from harness.wire.batch import USUAL_ROOM, make_room

if TYPE_CHECKING:
    from harness.group.cookies import SocketNames
    from harness.loader.maps import Map
    from harness.loader.program import Program
    from harness.wire.sysctls import Settings


class ReuseportGroup:
    """A group of `size` members, named 0, 1, … in the order they joined, and the program that decides between them.

    It lives in the calling thread's network namespace. Cases change it through the methods below and `restore` puts it
    back; `layout` always says how it stands. `names` gets what each member is called, for stories.
    """

    def __init__(
        self,
        shape: Shape,
        program: Program,
        *,
        size: int,
        settings: Settings,
        port: int = GROUP_PORT,
        names: SocketNames | None = None,
    ) -> None:
        self.shape, self.program, self.size, self.port = shape, program, size, port
        self._settings = settings
        self._members = Members(shape, port=port, names={} if names is None else names)
        self._arrivals = Arrivals(self._members, shape.protocol)
        self._slots = Slots(program, port=port)
        self._attached = False
        try:
            for member in range(size):
                self.join(member)
            self.restore()
        except BaseException:
            self.close()
            raise

    @property
    def layout(self) -> Layout:
        """Return how the group stands now."""
        return Layout(
            shape=self.shape,
            members=tuple(self._members.order),
            slots=MappingProxyType(dict(self._slots.members)),
            foreign=MappingProxyType(dict(self._slots.foreign)),
            program=self.program.variant.name if self._attached else None,
            size=self.program.size,
            state=self.program.state,
            table=self.program.table,
            cpu=self._settings.cpu,
            inner_present=self._slots.inner_present,
            index_override=self.program.override,
            fast_open=self._settings.fast_open,
            syncookies=self._settings.syncookies,
        )

    @property
    def inner(self) -> Map | None:
        """Return the group's map of sockets, None if its program selects from none."""
        return self._slots.inner

    def close(self) -> None:
        """Close every socket; the group is gone with its last member."""
        self._arrivals.close()
        self._members.close()

    def socket_of(self, member: int) -> socket.socket:
        """Return a member's socket, for what this class has no word for."""
        self._slots.touch()
        return self._members[member]

    def cookie(self, member: int) -> int:
        """Return the member's socket cookie, which the inner map's lookup returns too."""
        return self._members.cookie(member)

    def join(self, member: int) -> None:
        """Create a member; UDP joins the group as it binds, TCP as it listens. It is in no slot yet."""
        self._members.join(member)
        self._arrivals.add(member)

    def leave(self, member: int) -> None:
        """Close a member: its slots empty themselves, and the group's last member takes its place in the order."""
        self._arrivals.remove(member)
        self._members.leave(member)
        self._slots.forget(member)

    def attach(self) -> None:
        """Attach the program to the group, through its first member."""
        self.program.attach(self._members.first)
        self._attached = True

    def detach(self) -> None:
        """Detach the program from the group; OSError (ENOENT) if there is none."""
        self._members.first.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
        self._attached = False

    def replace_program(self, program: Program) -> None:
        """Replace the attached program; its inner map starts empty."""
        self.program, self._slots = program, Slots(program, port=self.port)
        self.attach()

    def clear_slot(self, index: int) -> None:
        """Empty one slot of the inner map; the member stays in the group."""
        self._slots.clear(index)

    def set_slot(self, index: int, member: int) -> None:
        """Put a member into an empty slot of the inner map."""
        self._slots.set(index, member, self._members[member])

    def set_foreign(self, index: int, foreign: socket.socket, *, error: int) -> None:
        """Put a socket of another group into an empty slot: the helper has to answer the error (-errno) for it."""
        self._slots.set_foreign(index, foreign, error=error)

    def withdraw_inner_map(self) -> None:
        """Leave the outer map without the inner one."""
        self._slots.withdraw_inner_map()

    def check_slots(self) -> None:
        """Raise RuntimeError unless the kernel's inner map holds the members that the group put there."""
        self._slots.check(self._members)

    def override_index(self, index: int) -> None:
        """Set an index aside for the next packet, whatever its payload says."""
        self.program.override = index

    def allow_fast_open(self) -> None:
        """TCP: take data in a SYN without a cookie, until `restore`."""
        self._settings.allow_fast_open()

    def send_syncookies(self) -> None:
        """TCP: answer every SYN with a cookie, until `restore`."""
        self._settings.send_syncookies()

    def make_room(self, count: int) -> None:
        """UDP: have every member hold that many datagrams, or all that a batch leaves with it at once."""
        if count > USUAL_ROOM:
            for member in self._members.sockets:
                make_room(member)

    def collect(self) -> dict[int, tuple[bytes, ...]]:
        """Take what the members hold: datagrams, or for each new connection the bytes that came with it.

        A member that is not in the answer was asked and holds nothing. Connections stay open until `disconnect`.
        """
        return self._arrivals.collect()

    def collect_numbers(self) -> dict[int, int]:
        """UDP: take what the members hold of a batch: the number in each datagram to the member that holds it.

        Raises ValueError if a number is held twice.
        """
        return self._arrivals.collect_numbers()

    def disconnect(self) -> None:
        """Reset every connection that `collect` accepted."""
        self._arrivals.disconnect()

    def restore(self) -> None:
        """Undo what a case changed: all members there, N in slot N, program attached, inner map there, settings off.

        Raises RuntimeError if the kernel's inner map does not hold what it should then.
        """
        self.disconnect()
        self.collect()
        self.disconnect()
        self._settings.restore()
        if self._members.order != list(range(self.size)):
            for member in list(self._members.order):
                self.leave(member)
            self._attached = False  # the program went with the last member
            for member in range(self.size):
                self.join(member)
        if not self._attached:
            self.attach()
        if self.inner is not None and "tmp_index_ovr_map" in self.program.maps:
            self.program.override = NO_OVERRIDE
        self._slots.restore(self._members)

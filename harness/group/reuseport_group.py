# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a reuseport group on the kernel under test, change it as cases need, and look at what it holds."""

from __future__ import annotations

import select
import socket
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.group.socket_names import cookie_of, remember
from harness.model.abi import NO_OVERRIDE, native_bytes
from harness.model.layout import GROUP_PORT, Layout, Protocol, Shape
from harness.model.uapi import BPF_NOEXIST, SO_DETACH_REUSEPORT_BPF
from harness.wire.batch import NUMBER, USUAL_ROOM, make_room, message_buffers

if TYPE_CHECKING:
    from harness.loader.maps import Map
    from harness.loader.program import Program
    from harness.wire.sysctls import Settings

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FAST_OPEN_QUEUE = 128


class ReuseportGroup:
    """Own `size` members, named 0, 1, … in the order they joined, and what decides between them.

    Lives in the calling thread's network namespace. Cases change it through the methods below and `restore` puts it
    back; `layout` always says how it stands.
    """

    def __init__(
        self, shape: Shape, program: Program, *, size: int, settings: Settings, port: int = GROUP_PORT
    ) -> None:
        self.shape, self.program, self.size, self.port = shape, program, size, port
        self._settings = settings
        self.inner = program.inner_for_group()
        self._outer_key = port if program.variant.outer_by_port else 0
        self._sockets: dict[int, socket.socket] = {}
        self._members: list[int] = []
        self._member_of: dict[int, int] = {}  # by file descriptor
        self._cookies: dict[int, int] = {}
        self._connections: list[socket.socket] = []
        self._poll = select.epoll()
        self._ask_anew = False  # whether an heir may hold what it was not told of
        self._slots: dict[int, int] = {}
        self._foreign: dict[int, int] = {}
        self._attached = False
        self._inner_present = not program.variant.outer_by_port
        self._slots_known = False  # whether the inner map was looked at since anything could change it
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
            members=tuple(self._members),
            slots=MappingProxyType(dict(self._slots)),
            foreign=MappingProxyType(dict(self._foreign)),
            program=self.program.variant.name if self._attached else None,
            size=self.program.size,
            state=self.program.state,
            table=self.program.table,
            cpu=self._settings.cpu,
            inner_present=self._inner_present,
            index_override=self.program.override,
            fast_open=self._settings.fast_open,
            syncookies=self._settings.syncookies,
        )

    def close(self) -> None:
        """Close every socket; the group is gone with its last member."""
        self.disconnect()
        for member in self._sockets.values():
            member.close()
        self._sockets.clear()
        self._member_of.clear()
        self._poll.close()

    def socket_of(self, member: int) -> socket.socket:
        """Return a member's socket, for what this class has no word for."""
        self._slots_known = False
        return self._sockets[member]

    def join(self, member: int) -> None:
        """Create a member; UDP joins the group as it binds, TCP as it listens. It is in no slot yet."""
        shape = self.shape
        made = socket.socket(shape.family.address_family, shape.protocol.socket_type)
        self._sockets[member] = made
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setblocking(False)
        made.bind((shape.address, self.port))
        if shape.protocol is Protocol.TCP:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, _FAST_OPEN_QUEUE)
            made.listen(128)
        remember(made, f"member {member}" + ("" if self.port == GROUP_PORT else f" of port {self.port}"))
        self._members.append(member)
        self._member_of[made.fileno()] = member
        self._poll.register(made.fileno(), select.EPOLLIN)

    def leave(self, member: int) -> None:
        """Close a member: its slots empty themselves, and the group's last member takes its place in the order."""
        self._slots_known = False
        leaving = self._sockets.pop(member)
        self._poll.unregister(leaving.fileno())
        del self._member_of[leaving.fileno()]
        self._cookies.pop(member, None)
        leaving.close()
        self._ask_anew = self.shape.protocol is Protocol.TCP
        # net/core/sock_reuseport.c: reuse->socks[i] = reuse->socks[reuse->num_socks - 1]
        place, last = self._members.index(member), self._members.pop()
        if last != member:
            self._members[place] = last
        self._slots = {index: held for index, held in self._slots.items() if held != member}

    def replace_program(self, program: Program) -> None:
        """Attach another program in the place of the one that there is; its slots are as yet empty."""
        self.program, self.inner, self._slots = program, program.inner_for_group(), {}
        self._slots_known = False
        self._inner_present = not program.variant.outer_by_port
        self.attach()

    def attach(self) -> None:
        """Attach the program to the group, through its first member."""
        self.program.attach(self._any_member())
        self._attached = True

    def detach(self) -> None:
        """Detach the program from the group; OSError (ENOENT) if there is none."""
        self._any_member().setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
        self._attached = False

    def clear_slot(self, index: int) -> None:
        """Empty one slot of the inner map; the member stays in the group."""
        self._slots_known = False
        self._inner.delete(self._key(index))
        del self._slots[index]

    def set_slot(self, index: int, member: int) -> None:
        """Put a member into an empty slot of the inner map."""
        self._slots_known = False
        value = struct.pack("=Q", self._sockets[member].fileno())
        self._inner.update(self._key(index), value, flags=BPF_NOEXIST)
        self._slots[index] = member

    def set_foreign(self, index: int, foreign: socket.socket, *, error: int) -> None:
        """Put a socket of another group into an empty slot: the helper has to answer the error (-errno) for it."""
        self._slots_known = False
        self._inner.update(self._key(index), struct.pack("=Q", foreign.fileno()), flags=BPF_NOEXIST)
        self._foreign[index] = error

    def withdraw_inner_map(self) -> None:
        """Leave the outer map without the inner one."""
        self._slots_known = False
        self.program.withdraw_inner(key=self._outer_key)
        self._inner_present = False

    def override_index(self, index: int) -> None:
        """Set an index aside for the next packet, whatever its payload says."""
        self.program.override = index

    def allow_fast_open(self) -> None:
        """TCP: take data in a SYN without a cookie, until `restore`."""
        self._settings.allow_fast_open()

    def send_syncookies(self) -> None:
        """TCP: answer every SYN with a cookie, until `restore`."""
        self._settings.send_syncookies()

    def cookie(self, member: int) -> int:
        """Return the member's socket cookie, which the inner map's lookup returns too."""
        if member not in self._cookies:  # a socket keeps its cookie for life
            self._cookies[member] = cookie_of(self._sockets[member])
        return self._cookies[member]

    def inner_map_cookies(self) -> dict[int, int]:
        """Return what the kernel says the inner map holds: index to socket cookie."""
        keys = {index: self._key(index) for index in range(self.program.size)}
        values = {index: self._inner.lookup(key) for index, key in keys.items()}
        return {index: struct.unpack("=Q", value)[0] for index, value in values.items() if value is not None}

    def collect(self) -> dict[int, tuple[bytes, ...]]:
        """Take what the members hold: datagrams, or for each new connection the bytes that came with it.

        A member that is not in the answer was asked and holds nothing. Connections stay open until `disconnect`.
        """
        # A socket is ready for a datagram whose checksum it finds wrong as it is read: then it holds nothing.
        return {member: held for member in sorted(self._ready()) if (held := tuple(self._take(self._sockets[member])))}

    def make_room(self, count: int) -> None:
        """UDP: have every member hold that many datagrams, or all that a batch leaves with it at once."""
        if count > USUAL_ROOM:
            for member in self._sockets.values():
                make_room(member)

    def collect_numbers(self) -> dict[int, int]:
        """UDP: take what the members hold of a batch: the number in each datagram to the member that holds it.

        Raises ValueError if a number is held twice.
        """
        slots = message_buffers(NUMBER.size)
        received: dict[int, int] = {}
        while ready := self._ready():
            for member in ready:
                numbers = slots.receive_numbers(self._sockets[member])
                if not received.keys().isdisjoint(numbers):
                    raise ValueError(f"a datagram reached member {member} and, before, another or the same")
                received.update(dict.fromkeys(numbers, member))
        return received

    def _ready(self) -> list[int]:
        """Return the members that have something to take."""
        if self._ask_anew:
            # Kernels with K14 tell an heir's epoll nothing: EPOLL_CTL_MOD has it look (fs/eventpoll.c, ep_modify).
            for fd in self._member_of:
                self._poll.modify(fd, select.EPOLLIN)
            self._ask_anew = False
        return [member for fd, _ in self._poll.poll(0) if (member := self._member_of.get(fd)) is not None]

    def disconnect(self) -> None:
        """Reset every connection that `collect` accepted."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def restore(self) -> None:
        """Undo what a case changed: all members there, N in slot N, program attached, inner map there, settings off.

        Raises RuntimeError if the kernel's inner map does not hold what it should then.
        """
        self.disconnect()
        self.collect()
        self.disconnect()
        self._settings.restore()
        if self._members != list(range(self.size)):
            for member in list(self._members):
                self.leave(member)
            self._attached = False  # the program went with the last member
            for member in range(self.size):
                self.join(member)
        if not self._attached:
            self.attach()
        if self.inner is not None:
            self._restore_slots()

    def _restore_slots(self) -> None:
        if "tmp_index_ovr_map" in self.program.maps:
            self.program.override = NO_OVERRIDE
        if self._slots_known:
            return
        if not self._inner_present:
            self.program.insert_inner_map(self._inner, key=self._outer_key)
            self._inner_present = True
        for index in list(self._foreign):
            self._inner.delete(self._key(index))
            del self._foreign[index]
        for index, member in list(self._slots.items()):
            if index != member:
                self.clear_slot(index)
        for member in self._members:
            if member not in self._slots:
                self.set_slot(member, member)
        expected = {member: self.cookie(member) for member in self._members}
        if (found := self.inner_map_cookies()) != expected:
            raise RuntimeError(f"the inner map holds cookies {found} where it should hold {expected}")
        self._slots_known = True

    def _key(self, index: int) -> bytes:
        return native_bytes(index, self._inner.key_size)

    @property
    def _inner(self) -> Map:
        assert self.inner is not None, f"{self.program.variant.name} has no map of sockets"
        return self.inner

    def _take(self, member: socket.socket) -> list[bytes]:
        held: list[bytes] = []
        try:
            while True:
                if self.shape.protocol is Protocol.UDP:
                    held.append(member.recv(65535))
                    continue
                connection, _ = member.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                connection.setblocking(False)
                self._connections.append(connection)
                held.append(_read_now(connection))
        except BlockingIOError:
            return held

    def _any_member(self) -> socket.socket:
        return self._sockets[self._members[0]]


def _read_now(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65535)
    except BlockingIOError:
        return b""

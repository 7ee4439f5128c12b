# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Send thousands of datagrams and see who received each: a system call for a hundred, not for one.

Python's socket module has neither sendmmsg(2) nor recvmmsg(2), which make the difference between 440 and 35
microseconds a datagram under emulation.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.loader.libc import check, libc
from harness.model.uapi import SO_RCVBUFFORCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NUMBER = struct.Struct("=I")
"""What each datagram of a batch carries: its number, by which the receiver is told."""

AT_ONCE = 128
"""Datagrams at once, all of which a starved kernel may leave on their way.

They count for the sender until they arrive, whose buffer holds some 270; and ICMP errors count for the kernel's own
socket: of 200 datagrams that nobody held 173 were answered.
"""

HELD = 4 * AT_ONCE
"""Datagrams that a receiver has room for: to ask each of many after every portion takes longer than to send one."""

USUAL_ROOM = 128
"""Datagrams that a receive buffer of the usual size, 208 KiB, has room for."""

_ROOM = HELD * 1024
"""Bytes of a receive buffer, which the kernel doubles: one receiver may get all of them, and a datagram counts for 960
bytes from 6.12 on (skb->truesize), at most 832 on 6.1.
"""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


def make_room(receiver: socket.socket) -> None:
    """Have a receiver hold `HELD` datagrams; OSError (EPERM) without CAP_NET_ADMIN."""
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _ROOM)


@lru_cache(maxsize=8)
def message_buffers(length: int) -> MessageBuffers:
    """Return the slots for messages of a length; what is in them is whoever's who used them last."""
    return MessageBuffers(length)


class MessageBuffers:
    """Hold room for hundreds of equally long messages, laid out once as the system calls want it."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.buffer = ctypes.create_string_buffer(length * HELD)
        base = ctypes.addressof(self.buffer)
        self._vectors = (_Vector * HELD)(*(_Vector(base + length * place, length) for place in range(HELD)))
        self._messages = (_Message * HELD)()
        for place, message in enumerate(self._messages):
            message.header.vectors = ctypes.pointer(self._vectors[place])
            message.header.vector_count = 1

    def send(self, link: socket.socket, frames: Sequence[bytes]) -> None:
        """Send frames of the slots' length, at most as many as there are slots; OSError if the kernel refuses."""
        data = b"".join(frames)
        ctypes.memmove(self.buffer, data, len(data))
        done = 0
        while done < len(frames):
            start = ctypes.byref(self._messages, done * ctypes.sizeof(_Message))
            sent = libc.sendmmsg(link.fileno(), start, len(frames) - done, 0)
            done += check(sent, "send a batch")

    def receive_numbers(self, member: socket.socket) -> tuple[int, ...]:
        """Take the numbers of the datagrams that a socket holds, at most as many as there are slots."""
        count = libc.recvmmsg(member.fileno(), ctypes.byref(self._messages), HELD, socket.MSG_DONTWAIT, None)
        if count < 0 and ctypes.get_errno() == errno.EAGAIN:
            return ()
        check(count, "receive a batch")
        return struct.unpack_from(f"={count}I", self.buffer)


def portions(frames: Sequence[bytes], size: int = AT_ONCE) -> Iterator[Sequence[bytes]]:
    """Return the frames in portions of `size`, by default of what may be on its way at once."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]

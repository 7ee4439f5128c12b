# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Thousands of datagrams and the member that received each, with one system call for a hundred of them.

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
"""What each datagram of a batch carries: its number in the batch."""

AT_ONCE = 128
"""Datagrams sent at once. All of them may be on their way at one time, when the kernel gets little CPU time.

They count against the sender's buffer until they arrive, and it holds some 270. ICMP errors count against a buffer of
the kernel: of 200 datagrams without a receiver, 173 were answered.
"""

HELD = 4 * AT_ONCE
"""Datagrams that a receiver has room for: asking many receivers takes longer than sending `AT_ONCE`."""

USUAL_ROOM = 128
"""Datagrams that a receive buffer of the usual size, 208 KiB, has room for."""

_ROOM = HELD * 1024
"""Bytes of a receive buffer, which the kernel doubles. One receiver may get all datagrams.

A datagram counts for 960 bytes from 6.12 on (skb->truesize), for at most 832 on 6.1.
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
    """Make a receiver's buffer large enough for `HELD` datagrams; OSError (EPERM) without CAP_NET_ADMIN."""
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _ROOM)


@lru_cache(maxsize=8)
def message_buffers(length: int) -> MessageBuffers:
    """Return the buffers for messages of a length in bytes; their contents are undefined between uses.

    They are kept for the process's life: laying them out takes longer than sending a portion, and nothing in them
    outlives a call.
    """
    return MessageBuffers(length)


class MessageBuffers:
    """Buffers for `HELD` messages of one length in bytes, laid out once for sendmmsg(2) and recvmmsg(2)."""

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
        """Send at most `HELD` frames of the buffers' length.

        Raises ValueError for frames that do not fit, OSError if the kernel refuses.
        """
        data = b"".join(frames)
        if len(frames) > HELD or len(data) != len(frames) * self.length or len(frames[0]) != self.length:
            raise ValueError(f"the buffers are for at most {HELD} frames of {self.length} bytes each")
        ctypes.memmove(self.buffer, data, len(data))
        done = 0
        while done < len(frames):
            start = ctypes.byref(self._messages, done * ctypes.sizeof(_Message))
            sent = libc.sendmmsg(link.fileno(), start, len(frames) - done, 0)
            done += check(sent, "send a batch")

    def receive_numbers(self, member: socket.socket) -> tuple[int, ...]:
        """Take at most `HELD` datagrams from a socket; return their numbers, empty if it holds none.

        Raises ValueError if the buffers are not of `NUMBER`'s size, OSError if the kernel refuses.
        """
        if self.length != NUMBER.size:
            raise ValueError(f"a datagram of a batch has {NUMBER.size} bytes, the buffers are for {self.length} bytes")
        count = libc.recvmmsg(member.fileno(), ctypes.byref(self._messages), HELD, socket.MSG_DONTWAIT, None)
        if count < 0 and ctypes.get_errno() == errno.EAGAIN:
            return ()
        check(count, "receive a batch")
        return struct.unpack_from(f"={count}I", self.buffer)

    def receive(self, member: socket.socket) -> list[bytes]:
        """Take at most `HELD` datagrams from a socket, each cut at the buffers' length.

        Raises OSError if the kernel refuses.
        """
        count = libc.recvmmsg(member.fileno(), ctypes.byref(self._messages), HELD, socket.MSG_DONTWAIT, None)
        if count < 0 and ctypes.get_errno() == errno.EAGAIN:
            return []
        data = ctypes.string_at(self.buffer, check(count, "receive a batch") * self.length)
        return [data[start : start + self.length] for start in range(0, len(data), self.length)]


def portions(frames: Sequence[bytes], size: int = AT_ONCE) -> Iterator[Sequence[bytes]]:
    """Return the frames in portions of `size`, by default as many as may be sent at once."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]

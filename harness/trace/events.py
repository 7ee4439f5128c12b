# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Python side of `struct event` and `struct log` in harness/trace/witness_log.h. Pure."""

from __future__ import annotations

import ipaddress
import struct
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from mmap import mmap

EVENTS = 2048
"""Events that the log of one CPU holds before the oldest are overwritten; a power of two."""

_HEAD = struct.Struct("=QQHBBI")
_ARRIVAL = struct.Struct("=16s16s2s2sI")
_SOCKET = struct.Struct("=QQIIIIHHI")
SIZE = _HEAD.size + _SOCKET.size
LOG_SIZE = 8 + EVENTS * SIZE

_KIND_AT = 16
_LAST_ERRNO = 4095


class Kind(IntEnum):
    """What an event tells; the values are those of `enum kind`."""

    ARRIVED = 1
    LOOKUP = 2
    GROUP = 3
    HELPER = 4
    PROGRAM = 5
    SELECTED = 6
    QUEUED = 7
    REQUEST = 8
    ACCEPT = 9
    COOKIE_SENT = 10
    COOKIE_TAKEN = 11
    MIGRATE = 12
    MIGRATED = 13
    DROP = 14
    ICMP = 15
    RESET = 16


@dataclass(frozen=True, kw_only=True)
class Socket:
    """A socket by its cookie (0 until somebody asked for it) and its inode (0 once it is closed)."""

    cookie: int = 0
    inode: int = 0


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A packet as its protocol received it; `length` counts from the transport header, in bytes."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    length: int
    tcp_flags: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened; fields that its kind does not use are 0 or None.

    `value` is the hash of a GROUP, the key of a HELPER, the address where a DROP happened, and what the function
    returned for PROGRAM, SELECTED and MIGRATED. `reason` is a HELPER's result (0 or -errno), a DROP's reason, a
    GROUP's flags (1 bound to any address, 2 has connected members, 4 has a program).
    """

    kind: Kind
    time: int = 0
    """Nanoseconds since boot."""
    skb: int = 0
    """The packet's buffer; 0 where no packet is being received."""
    arrival: Arrival | None = None
    socket: Socket | None = None
    """None where no socket was chosen."""
    value: int = 0
    id: int = 0
    program: int = 0
    type: int = 0
    members: int = 0
    closed: int = 0
    reason: int = 0
    detail: int = 0
    flags: int = 0
    length: int = 0

    @property
    def error(self) -> int:
        """Return the errno that `value` holds as an error pointer, 0 if it is no error pointer."""
        negative = (1 << 64) - self.value
        return negative if 0 < negative <= _LAST_ERRNO else 0


def decode(record: bytes) -> Event:
    """Return the event in a record of `SIZE` bytes. Raises ValueError for an unknown kind."""
    time, skb, kind, detail, flags, length = _HEAD.unpack_from(record)
    if kind == Kind.ARRIVED:
        source, destination, source_port, destination_port, protocol = _ARRIVAL.unpack_from(record, _HEAD.size)
        width = 4 if detail == 4 else 16
        arrival = Arrival(
            protocol=protocol,
            source=str(ipaddress.ip_address(source[:width])),
            source_port=int.from_bytes(source_port, "big"),
            destination=str(ipaddress.ip_address(destination[:width])),
            destination_port=int.from_bytes(destination_port, "big"),
            length=length,
            tcp_flags=flags,
        )
        return Event(kind=Kind.ARRIVED, time=time, skb=skb, arrival=arrival, detail=detail, flags=flags, length=length)
    cookie, value, inode, id_, program, type_, members, closed, reason = _SOCKET.unpack_from(record, _HEAD.size)
    if kind == Kind.HELPER:
        reason -= (reason & 1 << 31) << 1
    return Event(
        kind=Kind(kind), time=time, skb=skb, detail=detail, flags=flags, length=length,
        socket=Socket(cookie=cookie, inode=inode) if cookie or inode else None,
        value=value, id=id_, program=program, type=type_, members=members, closed=closed, reason=reason,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The records since the last reading, as the kernel wrote them, and how many were overwritten before."""

    records: tuple[bytes, ...] = ()
    lost: int = 0


def cookie_in(record: bytes) -> int:
    """Return the cookie that a record names, 0 if none; fifty times faster than `decode`."""
    return 0 if record[_KIND_AT] == Kind.ARRIVED else int.from_bytes(record[_HEAD.size : _HEAD.size + 8], sys.byteorder)


def drop_in(record: bytes) -> tuple[int, int] | None:
    """Return (address, reason) of a record of a drop, None for another kind."""
    if record[_KIND_AT] != Kind.DROP:
        return None
    _, address, _, _, _, _, _, _, reason = _SOCKET.unpack_from(record, _HEAD.size)
    return address, reason


def read_log(log: bytes | mmap, at: int, since: int) -> tuple[list[bytes], int, int]:
    """Return the records of one CPU's log after its `since`-th, how many were overwritten, and how many it now counts.

    `at` is where the log begins in the memory given, in bytes.
    """
    (count,) = struct.unpack_from("=Q", log, at)
    first = max(since, count - EVENTS)
    starts = (at + 8 + (number % EVENTS) * SIZE for number in range(first, count))
    return [log[start : start + SIZE] for start in starts], first - since, count


def in_order(records: Iterable[bytes]) -> tuple[Event, ...]:
    """Return the events of all CPUs, sorted by time."""
    return tuple(sorted(map(decode, records), key=lambda event: event.time))

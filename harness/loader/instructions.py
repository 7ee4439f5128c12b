# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An assembler for the few BPF instructions of a probe, for which no compiler need be started. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

R0, R1, R2, R3, R4, R5, R6, R7, R10 = 0, 1, 2, 3, 4, 5, 6, 7, 10

MAP_LOOKUP, SELECT_REUSEPORT, GET_SOCKET_COOKIE, SETSOCKOPT, SK_RELEASE, SK_ASSIGN = 1, 82, 46, 49, 86, 124
SK_LOOKUP_TCP, SK_LOOKUP_UDP = 84, 85
"""enum bpf_func_id (include/uapi/linux/bpf.h)."""


def _one(code: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, destination | source << 4, offset, immediate)


def move(destination: int, immediate: int) -> bytes:
    """Return `destination = immediate`."""
    return _one(0xB7, destination, immediate=immediate)


def copy(destination: int, source: int) -> bytes:
    """Return `destination = source`."""
    return _one(0xBF, destination, source)


def add(destination: int, immediate: int) -> bytes:
    """Return `destination += immediate`."""
    return _one(0x07, destination, immediate=immediate)


def load(size: int, destination: int, source: int, offset: int) -> bytes:
    """Return `destination = *(uSIZE *)(source + offset)` for a size of 1, 2, 4 or 8 bytes."""
    return _one({1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}[size], destination, source, offset)


def store_word(destination: int, offset: int, immediate: int) -> bytes:
    """Return `*(u32 *)(destination + offset) = immediate`."""
    return _one(0x62, destination, offset=offset, immediate=immediate)


def store_double(destination: int, offset: int, immediate: int) -> bytes:
    """Return `*(u64 *)(destination + offset) = immediate`."""
    return _one(0x7A, destination, offset=offset, immediate=immediate)


def store_register(size: int, destination: int, source: int, offset: int) -> bytes:
    """Return `*(uSIZE *)(destination + offset) = source` for a size of 1, 2, 4 or 8 bytes."""
    return _one({1: 0x73, 2: 0x6B, 4: 0x63, 8: 0x7B}[size], destination, source, offset)


def atomic_add(destination: int, source: int, offset: int) -> bytes:
    """Return `lock *(u64 *)(destination + offset) += source`."""
    return _one(0xDB, destination, source, offset)


def store_release(destination: int, source: int, offset: int) -> bytes:
    """Return `store_release((u64 *)(destination + offset), source)` (Linux 6.15)."""
    return _one(0xDB, destination, source, offset, 0x110)


def map_of(destination: int, fd: int) -> bytes:
    """Return `destination = map`, by the map's file descriptor: two instructions."""
    return _one(0x18, destination, 1, immediate=fd) + _one(0)


def call(function: int) -> bytes:
    """Return a call of a helper."""
    return _one(0x85, immediate=function)


def skip_if_equal(register: int, immediate: int, count: int) -> bytes:
    """Return `if (register == immediate)` skip that many of the next instructions."""
    return _one(0x15, register, offset=count, immediate=immediate)


def skip_unless_equal(register: int, immediate: int, count: int) -> bytes:
    """Return `if (register != immediate)` skip that many of the next instructions."""
    return _one(0x55, register, offset=count, immediate=immediate)


def load_half_of_frame(offset: int) -> bytes:
    """Return `r0 = the two bytes at that offset of the frame`; r6 must be the context, r1 to r5 are overwritten.

    The program ends and returns 0 if the frame is shorter.
    """
    return _one(0x28, immediate=offset)


def skip_if_greater(register: int, other: int, count: int) -> bytes:
    """Return `if (register > other)` skip that many of the next instructions."""
    return _one(0x2D, register, other, offset=count)


def leave() -> bytes:
    """Return the instruction that ends a program."""
    return _one(0x95)


def verdict(value: int) -> bytes:
    """Return the end of a program: `return value`."""
    return move(R0, value) + leave()


def set_option(level: int, option: int, value: int) -> bytes:
    """Return the call `bpf_setsockopt(ctx, level, option, &value, 4)`; r1 must be the context, r0 is its answer."""
    return b"".join((
        store_word(R10, -4, value),
        move(R2, level),
        move(R3, option),
        copy(R4, R10),
        add(R4, -4),
        move(R5, 4),
        call(SETSOCKOPT),
    ))  # fmt: skip


def change_map(map_fd: int, function: int) -> bytes:
    """Return a call of a map's update or delete with key 0, and `r6` as the value's address."""
    return b"".join((
        store_word(R10, -4, 0),
        map_of(R1, map_fd),
        copy(R2, R10),
        add(R2, -4),
        copy(R3, R6),
        move(R4, 0),
        call(function),
    ))  # fmt: skip


def select(map_fd: int, index: int, *, flags: int = 0) -> bytes:
    """Return the call `bpf_sk_select_reuseport(ctx, map, &index, flags)`; r1 must be the context, r0 is its answer."""
    return store_word(R10, -4, index) + _select(map_fd, flags)


def select_register(map_fd: int, index: int) -> bytes:
    """Return that call with an index that is in a register."""
    return store_register(4, R10, index, -4) + _select(map_fd, 0)


def _select(map_fd: int, flags: int) -> bytes:
    return b"".join((
        map_of(R2, map_fd),
        copy(R3, R10),
        add(R3, -4),
        move(R4, flags),
        call(SELECT_REUSEPORT),
    ))  # fmt: skip


def assign(sockmap_fd: int, *, flags: int = 0, answer: int = 1) -> bytes:
    """Return an SK_LOOKUP program that assigns the socket in slot 0 of a sockmap and returns `answer`, SK_PASS."""
    found = b"".join((
        copy(R7, R0),
        copy(R1, R6),
        copy(R2, R7),
        move(R3, flags),
        call(SK_ASSIGN),
        copy(R1, R7),
        call(SK_RELEASE),
    ))  # fmt: skip
    return b"".join((
        copy(R6, R1),
        store_word(R10, -4, 0),
        map_of(R1, sockmap_fd),
        copy(R2, R10),
        add(R2, -4),
        call(MAP_LOOKUP),
        skip_if_equal(R0, 0, len(found) // 8),
        found,
        verdict(answer),
    ))  # fmt: skip


def assign_at_ingress(*choices: tuple[int, Iterable[tuple[int, int]]]) -> bytes:
    """Return a sched_cls program that assigns the socket in slot 0 of the first sockmap whose fields a frame has.

    A field is an offset, and the value of the two bytes there. All frames pass.
    """
    blocks = []
    for sockmap_fd, fields in choices:
        block = copy(R1, R6) + assign(sockmap_fd, answer=0)
        for offset, value in reversed(list(fields)):
            block = load_half_of_frame(offset) + skip_unless_equal(R0, value, len(block) // 8) + block
        blocks.append(block)
    return copy(R6, R1) + b"".join(blocks) + verdict(0)


def look_up_at_ingress(function: int, four_tuple: bytes, *, times: int) -> bytes:
    """Return a sched_cls program that looks a socket up that often for each frame, and passes the frame.

    `function` is SK_LOOKUP_TCP or SK_LOOKUP_UDP, `four_tuple` a `struct bpf_sock_tuple` of either family.
    """
    words = struct.unpack(f"={len(four_tuple) // 4}i", four_tuple)
    stored = b"".join(store_word(R10, 4 * place - len(four_tuple), word) for place, word in enumerate(words))
    release = copy(R1, R0) + call(SK_RELEASE)
    one = b"".join((
        copy(R1, R6),
        copy(R2, R10),
        add(R2, -len(four_tuple)),
        move(R3, len(four_tuple)),
        move(R4, -1),  # BPF_F_CURRENT_NETNS
        move(R5, 0),
        call(function),
        skip_if_equal(R0, 0, len(release) // 8),
        release,
    ))  # fmt: skip
    return copy(R6, R1) + stored + one * times + verdict(0)

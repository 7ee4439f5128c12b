# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SipHash-2-4 (Aumasson and Bernstein, 2012), by which the kernel makes fast-open cookies. Pure."""

from __future__ import annotations

import struct

_WORD = (1 << 64) - 1
_INITIAL = struct.unpack(">4Q", b"somepseudorandomlygeneratedbytes")


def siphash(key: bytes, data: bytes) -> int:
    """Return the hash of some bytes, a number of 64 bits; the key has 16 bytes."""
    low, high = struct.unpack("<2Q", key)
    state: list[int] = [word ^ part for word, part in zip(_INITIAL, (low, high, low, high), strict=True)]
    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[int], times: int) -> None:
    a, b, c, d = state
    for _ in range(times):
        a = (a + b) & _WORD
        b = _rotated(b, 13) ^ a
        a = _rotated(a, 32)
        c = (c + d) & _WORD
        d = _rotated(d, 16) ^ c
        a = (a + d) & _WORD
        d = _rotated(d, 21) ^ a
        c = (c + b) & _WORD
        b = _rotated(b, 17) ^ c
        c = _rotated(c, 32)
    state[:] = a, b, c, d


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _WORD

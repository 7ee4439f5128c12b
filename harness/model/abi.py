# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Python side of bpf/select.h: what programs and cases tell each other through maps and payloads."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from enum import IntEnum

from harness.model.addresses import spelled
from harness.model.layout import Family

NO_OVERRIDE = -1

TABLE_SIZE = 8191
"""Entries of table_map (bpf/table.h): a prime, as Maglev needs, and 128 times the largest group it is for."""

NOBODY = 0xFFFFFFFF
"""An entry of table_map that names no member."""

CID_LENGTH = 8
"""Bytes of a connection ID that a QUIC server chose (bpf/quic.h)."""


class Result(IntEnum):
    """Name the six results of the reference program; a value is an index of result_map."""

    DROP_ERR_INNER_MAP = 0
    DROP_ERR_SKB_DATA = 1
    DROP_ERR_SK_SELECT_REUSEPORT = 2
    DROP_MISC = 3
    PASS = 4
    PASS_ERR_SK_SELECT_REUSEPORT = 5

    @property
    def passes(self) -> bool:
        """Tell whether the program returned SK_PASS."""
        return self >= Result.PASS


def pack_indices(first: int, second: int) -> bytes:
    """Return the 8 bytes of a command whose two words are two indices."""
    return _COMMAND.pack(first, second)


def pack_command(index: int, *, pass_on_failure: bool = False) -> bytes:
    """Return the 8 bytes of `struct cmd`: the member's index (u32) and what to do if it cannot be selected."""
    return struct.pack("=II", index & 0xFFFFFFFF, int(pass_on_failure))


def unpack_indices(payload: bytes) -> tuple[int, int] | None:
    """Return the command's two words as two indices, for programs that take it so, or None if they are not there."""
    if len(payload) < _COMMAND.size:
        return None
    first, second = _COMMAND.unpack_from(payload)
    return first, second


def unpack_command(payload: bytes) -> tuple[int, bool] | None:
    """Return (index, pass_on_failure) from the start of a payload, or None if it is under 8 bytes."""
    if len(payload) < _COMMAND.size:
        return None
    index, pass_on_failure = _COMMAND.unpack_from(payload)
    return index, bool(pass_on_failure)


_COMMAND = struct.Struct("=II")
_CONTEXT = struct.Struct("=I32s2s2sHB1xII")
CONTEXT_SIZE = _CONTEXT.size


@dataclass(frozen=True, kw_only=True)
class Context:
    """Hold what the program saw of one packet: `struct data_check`, without the hash.

    `length` counts bytes from the transport header on, as `sk_reuseport_md.len` does.
    """

    ip_protocol: int
    eth_protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    bind_inany: bool
    length: int


def unpack_context(record: bytes) -> tuple[Context, int]:
    """Return the context and the hash from the `CONTEXT_SIZE` bytes of data_check_map."""
    ip_protocol, addresses, source_port, destination_port, eth, inany, length, hash_ = _CONTEXT.unpack(record)
    eth_protocol = int.from_bytes(eth.to_bytes(2, sys.byteorder), "big")
    width = 4 if eth_protocol == Family.IPV4.eth_protocol else 16
    source, destination = (spelled(addresses[start : start + width]) for start in (0, width))
    context = Context(
        ip_protocol=ip_protocol,
        eth_protocol=eth_protocol,
        source=source,
        source_port=int.from_bytes(source_port, "big"),
        destination=destination,
        destination_port=int.from_bytes(destination_port, "big"),
        bind_inany=bool(inany),
        length=length,
    )
    return context, hash_

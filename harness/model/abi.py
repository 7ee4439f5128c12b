# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Python side of bpf/*.h: the layouts of payloads and maps that programs and cases share."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from harness.model.addresses import spelled
from harness.model.layout import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_OVERRIDE = -1

TABLE_SIZE = 8191
"""Entries of table_map (bpf/table.h): a prime, as Maglev needs, and about 128 for each of 64 members."""

NOBODY = 0xFFFFFFFF
"""An entry of table_map that names no member."""

MOST_NODES = 128
"""Nodes that bpf/rendezvous.bpf.c scores (bpf/rendezvous.h): further ones in the table are never selected."""

CID_LENGTH = 8
"""Bytes of a connection ID that a QUIC server chose (bpf/quic.h)."""


BY_HASH, REFUSE = 1000, 1001
"""What state_map tells bpf/migrate.bpf.c instead of an index: leave a migration to the hash, or allow none."""

ABSOLUTE = 0xFFFFFFFF
"""No start header: bpf/load_bytes.bpf.c then calls bpf_skb_load_bytes()."""


class Result(IntEnum):
    """The six results that programs count; the value is the index in result_map."""

    DROP_ERR_INNER_MAP = 0
    DROP_ERR_SKB_DATA = 1
    DROP_ERR_SK_SELECT_REUSEPORT = 2
    DROP_MISC = 3
    PASS = 4
    PASS_ERR_SK_SELECT_REUSEPORT = 5

    @property
    def passes(self) -> bool:
        """Return whether the program returned SK_PASS."""
        return self >= Result.PASS


def native_bytes(number: int, size: int) -> bytes:
    """Return a number as a program stores it: in `size` bytes of this machine's order."""
    return number.to_bytes(size, sys.byteorder)


def native_number(data: bytes) -> int:
    """Return the number that a program would load from the bytes, in this machine's order."""
    return int.from_bytes(data, sys.byteorder)


def pack_table(entries: Sequence[int]) -> bytes:
    """Return the bytes of table_map, `NOBODY` in all further entries; ValueError if they are too many."""
    if len(entries) > TABLE_SIZE:
        raise ValueError(f"the table has {TABLE_SIZE} entries: {len(entries)} entries do not fit")
    return struct.pack(f"={TABLE_SIZE}I", *entries, *[NOBODY] * (TABLE_SIZE - len(entries)))


def pack_indices(first: int, second: int) -> bytes:
    """Return the 8 bytes of a command whose two words are two indices, for bpf/select_twice.bpf.c."""
    return _COMMAND.pack(first, second)


def pack_command(index: int, *, pass_on_failure: bool = False) -> bytes:
    """Return the 8 bytes of `struct cmd`: the member's index (u32) and what to do if it cannot be selected."""
    return _COMMAND.pack(index & 0xFFFFFFFF, int(pass_on_failure))


def unpack_indices(payload: bytes) -> tuple[int, int] | None:
    """Return two indices from the start of a payload, None if it is under 8 bytes."""
    if len(payload) < _COMMAND.size:
        return None
    first, second = _COMMAND.unpack_from(payload)
    return first, second


def unpack_command(payload: bytes) -> tuple[int, bool] | None:
    """Return (index, pass_on_failure) from the start of a payload, None if it is under 8 bytes."""
    if len(payload) < _COMMAND.size:
        return None
    index, pass_on_failure = _COMMAND.unpack_from(payload)
    return index, bool(pass_on_failure)


_COMMAND = struct.Struct("=II")
_CONTEXT = struct.Struct("=I32s2s2sHB1xII")
CONTEXT_SIZE = _CONTEXT.size


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the program recorded of one packet: `struct data_check` of bpf/select.h, without the hash.

    `length` is `sk_reuseport_md.len`: bytes from the transport header on.
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
    """Return the context and the hash from the `CONTEXT_SIZE` bytes of data_check_map.

    ValueError is raised if anything stands behind the two addresses: a program has read more than them.
    """
    ip_protocol, addresses, source_port, destination_port, eth, inany, length, hash_ = _CONTEXT.unpack(record)
    eth_protocol = int.from_bytes(native_bytes(eth, 2), "big")
    width = 4 if eth_protocol == Family.IPV4.eth_protocol else 16
    source, destination = (spelled(addresses[start : start + width]) for start in (0, width))
    if any(behind := addresses[2 * width :]):
        raise ValueError(f"data_check_map has {behind.hex(' ')} behind the two addresses")
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


_MIGRATION = struct.Struct("=QIIIIIiI4x")


@dataclass(frozen=True, kw_only=True)
class Migration:
    """What the program saw of the migration that it decided last: `struct migration` of bpf/migrate.bpf.c."""

    listener: int
    """The cookie of the listener that closes."""
    state: int
    """The state of the socket that migrates, by its number in include/net/tcp_states.h."""
    count: int
    """Migrations that the program has decided."""
    length: int
    eth_protocol: int
    linear: int
    """Bytes between data and data_end."""
    error: int
    """What bpf_sk_select_reuseport() answered (0 or -errno)."""
    hash: int = field(default=0, compare=False)


def unpack_migration(record: bytes) -> Migration:
    """Return the migration from the value of migration_map."""
    listener, state, count, length, eth_protocol, linear, error, hash_ = _MIGRATION.unpack(record)
    return Migration(
        listener=listener,
        state=state,
        count=count,
        length=length,
        eth_protocol=eth_protocol,
        linear=linear,
        error=error,
        hash=hash_,
    )


_ANSWER = struct.Struct("=i64s")


def pack_question(offset: int, length: int, header: int = ABSOLUTE) -> bytes:
    """Return the value of question_map: what bpf/load_bytes.bpf.c reads of the packet, `length` in bytes."""
    return struct.pack("=III", offset, length, header)


def pack_answer(error: int, buffer: bytes) -> bytes:
    """Return a value of answer_map, whose buffer has 64 bytes."""
    return _ANSWER.pack(error, buffer)


def unpack_answer(record: bytes) -> tuple[int, bytes]:
    """Return the helper's answer (0 or -errno) and the buffer of 64 bytes from the value of answer_map."""
    error, buffer = _ANSWER.unpack(record)
    return error, buffer

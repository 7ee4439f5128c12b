# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read from an object's type information (BTF) which of its externs libbpf resolves by itself. Pure.

To ELF `extern int socks;` and `extern int LINUX_KERNEL_VERSION __kconfig;` are the same; BTF has the section of the
second (Documentation/bpf/btf.rst).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESOLVED = (".kconfig", ".ksyms")
"""The sections of `__kconfig` and `__ksym` (tools/lib/bpf/bpf_helpers.h)."""

_HEADER = struct.Struct("=HBBIIIII")  # magic, version, flags, hdr_len, type_off, type_len, str_off, str_len
_TYPE = struct.Struct("=III")  # name_off, info, and a size or a type
_ENTRY = struct.Struct("=III")  # of a DATASEC: type, offset, size
_VAR, _DATASEC = 14, 15
_BYTES_AFTER = {1: 4, 3: 12, 14: 4, 17: 4}
"""What follows a type of that kind: INT, ARRAY, VAR, DECL_TAG."""
_BYTES_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""What follows for each of its members: STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64."""


def resolved_by_libbpf(types: bytes) -> frozenset[str]:
    """Return the names of the externs that libbpf resolves: the kernel's configuration and its symbols.

    Raises ValueError, IndexError or struct.error for type information that is damaged.
    """
    _, _, _, header, type_offset, type_bytes, text_offset, _ = _HEADER.unpack_from(types)
    start, text = header + type_offset, types[header + text_offset :]
    found = list(_types(types[start : start + type_bytes]))
    names = set()
    for kind, name, rest in found:
        if kind == _DATASEC and _text(text, name) in _RESOLVED:
            variables = [found[number - 1] for number, _, _ in _ENTRY.iter_unpack(rest)]  # numbers begin with 1
            names |= {_text(text, its_name) for its_kind, its_name, _ in variables if its_kind == _VAR}
    return frozenset(names)


def _types(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each type's kind, the offset of its name, and what follows it."""
    place = 0
    while place < len(data):
        name, info, _ = _TYPE.unpack_from(data, place)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        place += _TYPE.size
        length = _BYTES_AFTER.get(kind, 0) + members * _BYTES_EACH.get(kind, 0)
        yield kind, name, data[place : place + length]
        place += length


def _text(text: bytes, offset: int) -> str:
    return text[offset : text.index(b"\0", offset)].decode()

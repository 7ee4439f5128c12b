# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The offsets of members in the kernel's structures, read from its type information (BTF) with libbpf."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_uint32, cast
from pathlib import Path

from harness.loader.bindings import library

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_STRUCT, _UNION = 4, 5
_AGGREGATES = (_STRUCT, _UNION)
_TYPE_WORDS, _MEMBER_WORDS = 3, 3


class Types:
    """The running kernel's type information, to be closed.

    Raises OSError if the kernel has none (CONFIG_DEBUG_INFO_BTF), LibbpfMissingError without libbpf.
    """

    def __init__(self) -> None:
        self._btf = library().btf__load_vmlinux_btf()
        if not self._btf:
            lacking = "the kernel has no type information: it was built without CONFIG_DEBUG_INFO_BTF"
            raise OSError(ctypes.get_errno(), lacking)

    def close(self) -> None:
        """Free the memory."""
        library().btf__free(self._btf)

    def offset(self, structure: str, path: str) -> int | None:
        """Return a member's offset in bytes, `outer.inner` for a nested one; None if there is no such member."""
        type_ = library().btf__find_by_name_kind(self._btf, structure.encode(), _STRUCT)
        total = 0
        for name in path.split("."):
            found = self._member(type_, name) if type_ > 0 else None
            if found is None:
                return None
            offset, type_ = found
            total += offset
        return total

    def _member(self, type_: int, wanted: str) -> tuple[int, int] | None:
        """Return (offset, type) of a member, looked for in anonymous structures and unions too."""
        libbpf = library()
        type_ = libbpf.btf__resolve_type(self._btf, type_)
        words = cast(libbpf.btf__type_by_id(self._btf, type_), POINTER(c_uint32))
        info = words[1]
        if info >> 24 & 0x1F not in _AGGREGATES:
            return None
        for index in range(info & 0xFFFF):
            name, member_type, bits = (words[_TYPE_WORDS + index * _MEMBER_WORDS + word] for word in range(3))
            offset = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            spelled = libbpf.btf__name_by_offset(self._btf, name).decode()
            if spelled == wanted:
                return offset, member_type
            if not spelled and (inner := self._member(member_type, wanted)) is not None:
                return offset + inner[0], inner[1]
        return None

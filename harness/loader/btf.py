# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read from the kernel's type information where the members of its structures are, through libbpf."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_void_p, cast
from functools import cache
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_STRUCT, _UNION = 4, 5
_AGGREGATES = (_STRUCT, _UNION)
_TYPE_WORDS, _MEMBER_WORDS = 3, 3


class Types:
    """Hold the running kernel's type information; OSError if the kernel has none (CONFIG_DEBUG_INFO_BTF)."""

    def __init__(self) -> None:
        library = _library()
        self._btf = library.btf__load_vmlinux_btf()
        if not self._btf:
            raise OSError(ctypes.get_errno(), "the kernel carries no type information (CONFIG_DEBUG_INFO_BTF)")

    def close(self) -> None:
        """Free it."""
        _library().btf__free(self._btf)

    def offset(self, structure: str, path: str) -> int | None:
        """Return the offset in bytes of a member, `outer.inner` for a nested one; None if there is none."""
        type_ = _library().btf__find_by_name_kind(self._btf, structure.encode(), _STRUCT)
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
        library = _library()
        type_ = library.btf__resolve_type(self._btf, type_)
        words = cast(library.btf__type_by_id(self._btf, type_), POINTER(c_uint32))
        info = words[1]
        if info >> 24 & 0x1F not in _AGGREGATES:
            return None
        for index in range(info & 0xFFFF):
            name, member_type, bits = (words[_TYPE_WORDS + index * _MEMBER_WORDS + word] for word in range(3))
            offset = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            spelled = library.btf__name_by_offset(self._btf, name).decode()
            if spelled == wanted:
                return offset, member_type
            if not spelled and (inner := self._member(member_type, wanted)) is not None:
                return offset + inner[0], inner[1]
        return None


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    signatures = {
        "btf__load_vmlinux_btf": (c_void_p, []),
        "btf__free": (None, [c_void_p]),
        "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
        "btf__resolve_type": (c_int, [c_void_p, c_uint32]),
        "btf__type_by_id": (c_void_p, [c_void_p, c_uint32]),
        "btf__name_by_offset": (c_char_p, [c_void_p, c_uint32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library

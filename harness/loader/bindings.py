# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The functions of libbpf 1.x that the harness calls, and the errors that they lead to."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from harness.loader.libc import libc
from harness.model.uapi import ENOTSUPP


class BpfError(OSError):
    """A refusal by libbpf or the kernel; `log` is what libbpf printed about it, the verifier's log included."""

    def __init__(self, number: int, action: str, log: str = "") -> None:
        name = errno.errorcode.get(number, "ENOTSUPP" if number == ENOTSUPP else str(number))
        text = os.strerror(number) if number != ENOTSUPP else "Operation is not supported"
        super().__init__(number, f"{action}: {text} ({name})" + (f"\n{log}" if log else ""))
        self.log = log


class LibbpfMissingError(RuntimeError):
    """No libbpf 1.x is installed."""


_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_LIBBPF_DEBUG = 2
_MOST_TEXT = 1 << 20
"""Bytes of one message: libbpf prints a verifier's whole log as one."""

_messages: list[str] = []
"""What libbpf printed since the last `call`. Global, because libbpf has one print function for the whole process."""


def _keep(level: int, template: bytes, arguments: int) -> int:
    if level >= _LIBBPF_DEBUG:  # some eighty lines for every object
        return 0
    text = ctypes.create_string_buffer(_MOST_TEXT)
    libc.vsnprintf(text, c_size_t(_MOST_TEXT), template, c_void_p(arguments))
    _messages.append(text.value.decode(errors="replace"))
    return 0


_KEEP = _PRINT(_keep)
"""Global, because libbpf calls it at any time and Python would free it."""


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__type": (c_int, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__map_flags": (c_uint32, [c_void_p]),
    "bpf_map__set_map_flags": (c_int, [c_void_p, c_uint32]),
    "bpf_map__set_inner_map_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__reuse_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__inner_map": (c_void_p, [c_void_p]),
    "bpf_map__initial_value": (c_void_p, [c_void_p, c_void_p]),
    "bpf_program__set_autoload": (c_int, [c_void_p, c_bool]),
    "bpf_program__type": (c_int, [c_void_p]),
    "bpf_program__set_type": (c_int, [c_void_p, c_int]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__set_expected_attach_type": (c_int, [c_void_p, c_int]),
    "bpf_prog_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_prog_get_next_id": (c_int, [c_uint32, c_void_p]),
    "bpf_map_get_next_id": (c_int, [c_uint32, c_void_p]),
    "bpf_link_get_next_id": (c_int, [c_uint32, c_void_p]),
    "bpf_prog_load": (c_int, [c_int, c_char_p, c_char_p, c_char_p, c_size_t, c_void_p]),
    "bpf_prog_attach": (c_int, [c_int, c_int, c_int, c_uint32]),
    "bpf_enable_stats": (c_int, [c_int]),
    "bpf_obj_get_info_by_fd": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_link_create": (c_int, [c_int, c_int, c_int, c_void_p]),
    "bpf_map_create": (c_int, [c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p]),
    "bpf_map_lookup_elem": (c_int, [c_int, c_char_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_char_p, c_char_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_char_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_char_p, c_void_p]),
    "btf__load_vmlinux_btf": (c_void_p, []),
    "btf__free": (None, [c_void_p]),
    "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
    "btf__resolve_type": (c_int, [c_void_p, c_uint32]),
    "btf__type_by_id": (c_void_p, [c_void_p, c_uint32]),
    "btf__name_by_offset": (c_char_p, [c_void_p, c_uint32]),
}


@cache
def library() -> ctypes.CDLL:
    """Return libbpf with the signatures above; LibbpfMissingError if it is not installed."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise LibbpfMissingError(
            "libbpf 1.x is not installed: install the package libbpf1 (Fedora: libbpf), or run ./bootstrap"
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.libbpf_set_print(_KEEP)
    return loaded


def call(action: str, function: str, *arguments: object) -> int:
    """Call a function of libbpf that returns a negative errno, or 0 or more, which is returned.

    Raises BpfError, "ACTION: …", with what libbpf printed during the call.
    """
    _messages.clear()
    result: int = getattr(library(), function)(*arguments)
    if result < 0:
        raise BpfError(-result, action, "".join(_messages))
    return result


def call_for_pointer(action: str, function: str, *arguments: object) -> int:
    """Call a function of libbpf that returns a pointer, or NULL and sets errno.

    Raises BpfError, "ACTION: …", with what libbpf printed during the call.
    """
    _messages.clear()
    ctypes.set_errno(0)
    result: int | None = getattr(library(), function)(*arguments)
    if not result:
        raise BpfError(ctypes.get_errno(), action, "".join(_messages))
    return result

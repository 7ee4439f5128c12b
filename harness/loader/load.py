# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Load programs that are bare instructions, and link programs to targets other than a socket."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_void_p

from harness.loader.bindings import BpfError, call
from harness.model.uapi import PROGRAM_TYPE

_BYTES_OF_INSTRUCTION = 8
_LOG_BYTES = 1 << 20


class _LoadOptions(ctypes.Structure):
    """`struct bpf_prog_load_opts` of libbpf 1.0 (bpf/bpf.h); `sz` tells libbpf how much of it there is."""

    _fields_ = (
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("numbers", c_uint32 * 7),  # prog_btf_fd to attach_btf_obj_fd, and what aligns the next
        ("fd_array", c_void_p),
        ("func_info", c_void_p),
        ("func_info_numbers", c_uint32 * 2),
        ("line_info", c_void_p),
        ("line_info_numbers", c_uint32 * 2),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_char_p),
    )


def load_instructions(
    kind: str,
    instructions: bytes,
    *,
    attach_type: int = 0,
    name: str = "probe",
    license_: str = "Dual BSD/GPL",
    log: bool = False,
) -> int:
    """Load a program of a kind in `uapi.PROGRAM_TYPE`; return its file descriptor, which the caller closes.

    BpfError carries the kernel's errno and, where `log` asks for it, the verifier's log.
    """
    count = len(instructions) // _BYTES_OF_INSTRUCTION
    options = _LoadOptions(sz=ctypes.sizeof(_LoadOptions), expected_attach_type=attach_type)
    buffer = ctypes.create_string_buffer(_LOG_BYTES if log else 1)
    if log:
        options.log_size, options.log_buf = _LOG_BYTES, ctypes.cast(buffer, c_char_p)
    action = f"load {name}" if log else f"load {count} instructions as {kind}"
    try:
        return call(
            action,
            "bpf_prog_load",
            PROGRAM_TYPE[kind],
            name.encode(),
            license_.encode(),
            instructions,
            count,
            ctypes.byref(options),
        )
    except BpfError as error:
        if said := buffer.value.decode(errors="replace"):
            raise BpfError(error.errno or 0, action, said) from None
        raise


def link(program_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach a program to a target; for BPF_SK_LOOKUP that is a network namespace.

    Returns a file descriptor, which the caller closes: the program stays attached until then. BpfError carries the
    kernel's errno.
    """
    return call("link a program", "bpf_link_create", program_fd, target_fd, attach_type, None)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Load programs that are bare instructions, and link programs to targets other than a socket."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_size_t

from harness.loader.bindings import call
from harness.model.uapi import PROGRAM_TYPE

_BYTES_OF_INSTRUCTION = 8


class _LoadOptions(ctypes.Structure):
    """The start of libbpf's `struct bpf_prog_load_opts` (bpf/bpf.h); `sz` tells libbpf how much of it there is."""

    _fields_ = (("sz", c_size_t), ("attempts", c_int), ("expected_attach_type", c_int))


def load_instructions(kind: str, instructions: bytes, *, attach_type: int = 0) -> int:
    """Load a program of a kind in `uapi.PROGRAM_TYPE`; return its file descriptor, which the caller closes.

    BpfError carries the kernel's errno.
    """
    options = _LoadOptions(ctypes.sizeof(_LoadOptions), 0, attach_type)
    count = len(instructions) // _BYTES_OF_INSTRUCTION
    return call(
        f"load {count} instructions as {kind}",
        "bpf_prog_load",
        PROGRAM_TYPE[kind],
        b"probe",
        b"Dual BSD/GPL",
        instructions,
        count,
        ctypes.byref(options),
    )


def link(program_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach a program to a target; for BPF_SK_LOOKUP that is a network namespace.

    Returns a file descriptor, which the caller closes: the program stays attached until then. BpfError carries the
    kernel's errno.
    """
    return call("link a program", "bpf_link_create", program_fd, target_fd, attach_type, None)

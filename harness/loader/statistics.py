# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own counters of a program: how often it ran, and how long that took (Linux 5.1)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.loader.bindings import BpfError, call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INFO_BYTES = 208
_RUN_TIME_AT = 192  # run_time_ns, then run_cnt: struct bpf_prog_info (include/uapi/linux/bpf.h)
_RUN_TIME = 0  # BPF_STATS_RUN_TIME
_SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a program cost: runs, and the time in them in nanoseconds, the counting included."""

    runs: int
    nanoseconds: int


def cost(fd: int) -> Cost:
    """Return the counters of the program with that descriptor. BpfError carries the kernel's errno."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    length = ctypes.c_uint32(_INFO_BYTES)
    call("counters of a program", "bpf_obj_get_info_by_fd", fd, info, ctypes.byref(length))
    nanoseconds, runs = struct.unpack_from("=QQ", info, _RUN_TIME_AT)
    return Cost(runs=runs, nanoseconds=nanoseconds)


@contextmanager
def counting(fd: int) -> Iterator[Callable[[], Cost]]:
    """Have the kernel count for a while; the function given returns what was counted since the beginning.

    Before 5.8, which has BPF_ENABLE_STATS, the switch is a sysctl of the whole kernel; it is put back. OSError without
    the rights.
    """
    with _switched_on():
        before = cost(fd)

        def since() -> Cost:
            now = cost(fd)
            return Cost(runs=now.runs - before.runs, nanoseconds=now.nanoseconds - before.nanoseconds)

        yield since


@contextmanager
def _switched_on() -> Iterator[None]:
    with ExitStack() as undo:
        try:
            undo.callback(os.close, call("count runs", "bpf_enable_stats", _RUN_TIME))
        except BpfError as error:
            if error.errno != errno.EINVAL:
                raise
            undo.callback(_SWITCH.write_text, _SWITCH.read_text())
            _SWITCH.write_text("1")
        yield

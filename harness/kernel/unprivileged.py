# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run an action in a process without capabilities, and return the kernel's errno."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

from harness.loader.libc import libc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39
"""include/uapi/linux/capability.h"""

_CAPABILITY_VERSION_3 = 0x20080522
_FAILED_OTHERWISE = -1


def errno_without(action: Callable[[], object], *, keeping: Iterable[int] = ()) -> int:
    """Return the errno of the OSError that an action raises in a child process, 0 if it raises none.

    The child has no capabilities but those to keep. Raises RuntimeError if it fails in any other way.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        answer = _FAILED_OTHERWISE
        try:
            _keep_only(keeping)
            action()
            answer = 0
        except OSError as error:
            answer = error.errno or _FAILED_OTHERWISE
        finally:
            os.write(writing, struct.pack("=i", answer))
            os._exit(0)
    os.close(writing)
    try:
        answer_read = os.read(reading, 4)
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    (number,) = struct.unpack("=i", answer_read) if answer_read else (_FAILED_OTHERWISE,)
    if number == _FAILED_OTHERWISE:
        raise RuntimeError("the child process failed, and not with an errno: see its output")
    return int(number)


def _keep_only(capabilities: Iterable[int]) -> None:
    mask = sum(1 << number for number in capabilities)
    words = [part for half in (mask & 0xFFFFFFFF, mask >> 32) for part in (half, half, 0)]
    header, data = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *words)
    if libc.capset(header, data):
        raise RuntimeError(f"capset: {os.strerror(ctypes.get_errno())}")

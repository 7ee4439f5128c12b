# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Do something in a process that has given up its capabilities, and learn what the kernel said."""

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
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_FAILED_OTHERWISE = -1


def errno_without(action: Callable[[], object], *, keeping: Iterable[int] = ()) -> int:
    """Return the errno that an action raises in a child with no capabilities but those to keep, 0 if it raises none.

    Raises RuntimeError if the child fails in another way than with an OSError.
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
        (number,) = struct.unpack("=i", os.read(reading, 4))
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    if number == _FAILED_OTHERWISE:
        raise RuntimeError("the child failed with something else than an errno")
    return int(number)


def _keep_only(capabilities: Iterable[int]) -> None:
    mask = sum(1 << number for number in capabilities)
    words = [part for half in (mask & 0xFFFFFFFF, mask >> 32) for part in (half, half, 0)]
    header, data = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *words)
    if libc.syscall(_SYS_CAPSET[os.uname().machine], header, data):
        raise RuntimeError(f"capset: {os.strerror(ctypes.get_errno())}")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The C library, for the few calls that Python's own modules lack."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, action: str) -> int:
    """Return a call's result; OSError with errno, "cannot ACTION: …", if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {action}: {os.strerror(number)}")
    return result

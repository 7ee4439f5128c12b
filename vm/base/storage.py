# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Why a file system refuses to be written to, in the kinds for which there are different remedies."""

from __future__ import annotations

import enum
import errno


class Refusal(enum.Enum):
    """Why a file system refused."""

    FULL = enum.auto()
    FORBIDDEN = enum.auto()
    OTHER = enum.auto()


def refusal_of(error: OSError) -> Refusal:
    """Return the kind of a file system's error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal.FULL
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refusal.FORBIDDEN
    return Refusal.OTHER

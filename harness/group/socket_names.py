# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names that cases give their sockets, by the cookie under which the kernel knows each."""

from __future__ import annotations

import socket
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.uapi import SO_COOKIE

if TYPE_CHECKING:
    from collections.abc import Mapping

_names: dict[int, str] = {}


def cookie_of(made: socket.socket) -> int:
    """Return a socket's cookie: 64 bits in the machine's byte order, which it keeps for life (`sock_gen_cookie`)."""
    return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


def remember(made: socket.socket, name: str) -> None:
    """Give a socket a name, which outlives it: a story may tell of it after it was closed."""
    _names[cookie_of(made)] = name


def known() -> Mapping[int, str]:
    """Return the names so far, by cookie."""
    return MappingProxyType(_names)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names that cases give their sockets, by the cookie under which the kernel knows each."""

from __future__ import annotations

import socket
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.abi import native_number
from harness.model.uapi import SO_COOKIE

if TYPE_CHECKING:
    from collections.abc import Mapping

_names: dict[int, str] = {}


def remember(made: socket.socket, name: str) -> None:
    """Give a socket a name, which outlives it: a story may tell of it after it was closed."""
    _names[cookie_of(made)] = name


def cookie_of(made: socket.socket) -> int:
    """Return the cookie under which the kernel knows a socket (socket(7), SO_COOKIE)."""
    return native_number(made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))


def known() -> Mapping[int, str]:
    """Return the names so far, by cookie."""
    return MappingProxyType(_names)

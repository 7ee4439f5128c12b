# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Remember what cases call their sockets, by the cookie under which the kernel knows them."""

from __future__ import annotations

import socket
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.uapi import SO_COOKIE

if TYPE_CHECKING:
    from collections.abc import Mapping

_names: dict[int, str] = {}


def remember(made: socket.socket, name: str) -> None:
    """Give a socket a name, which outlives it: a story may tell of it after it was closed."""
    cookie = made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    _names[int.from_bytes(cookie, sys.byteorder)] = name


def known() -> Mapping[int, str]:
    """Return the names so far, by cookie."""
    return MappingProxyType(_names)

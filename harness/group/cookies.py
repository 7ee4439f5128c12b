# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Socket cookies: the numbers under which the kernel knows sockets."""

from __future__ import annotations

import socket

from harness.model.abi import native_number
from harness.model.uapi import SO_COOKIE

SocketNames = dict[int, str]
"""What a case calls each socket, by its cookie. A name outlives its socket: a story may tell of it afterwards."""


def cookie_of(made: socket.socket) -> int:
    """Return the cookie under which the kernel knows a socket (socket(7), SO_COOKIE)."""
    return native_number(made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))

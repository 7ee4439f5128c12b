# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The packet socket (packet(7)) through which frames are sent and replies read."""

from __future__ import annotations

import socket
import struct

from harness.model.uapi import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET

_RECEIVE_BUFFER = 1 << 22


def open_packet_socket(link: str, *, seconds: float) -> socket.socket:
    """Open a socket on a link of the present namespace; its waits end after so many seconds. Raises OSError."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    try:
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        # SO_RCVBUF would give what net.core.rmem_max allows: some 300 replies, and the ping's behind them is lost.
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        wait_at_most(made, seconds)
        made.bind((link, 0))
    except BaseException:
        made.close()
        raise
    return made


def wait_at_most(made: socket.socket, seconds: float) -> None:
    """Have the kernel end a wait, with EAGAIN: for a time-out of its own Python asks poll(2) before each call."""
    whole, rest = divmod(seconds, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        made.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(whole), int(rest * 1e6)))

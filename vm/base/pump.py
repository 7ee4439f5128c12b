# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pass bytes on between standard input and output and a socket: python -I -S pump.py PATH.

The process that listens on the Unix socket PATH sends the socket to use, as a file descriptor.
"""

import os
import socket
import sys
import threading


def receive(path: str) -> socket.socket:
    """Return the socket that the listener at `path` sends. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.connect(path)
        _, (descriptor, *_), _, _ = socket.recv_fds(listener, 1, 1)
    return socket.socket(fileno=descriptor)


def _pass_input_on(port: socket.socket) -> None:
    while data := os.read(0, 65536):
        port.sendall(data)
    port.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    connection = receive(sys.argv[1])
    threading.Thread(target=_pass_input_on, args=(connection,), daemon=True).start()
    while received := connection.recv(65536):
        while received:
            received = received[os.write(1, received) :]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A case that watches a UDP and a TCP server on the loopback of the kernel it runs on; test_watching.py runs it."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from harness.kernel.release import running

HOST = "127.0.0.1"
MEMBERS, REQUESTS, FLOOD = 3, 60, 100
KPROBES = Path("/sys/kernel/debug/kprobes/list")
WATCH = (sys.executable, "-m", "harness", "watch", "--count", "10")


def member(kind: socket.SocketKind, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # soon full
    made.bind((HOST, port))
    if kind is socket.SOCK_STREAM:
        made.listen()
    return made


def ready(servers: list[socket.socket]) -> socket.socket:
    (one,), _, _ = select.select(servers, [], [], 10)
    assert isinstance(one, socket.socket)
    return one


def answer_datagrams(servers: list[socket.socket], address: tuple[str, int]) -> Counter[int]:
    """Send requests, each from a port of its own, and answer them; return how many each server had."""
    had = Counter[int]()
    for _ in range(REQUESTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"request", address)
            server = ready(servers)
            server.sendto(b"answer", server.recvfrom(100)[1])
            assert client.recv(100) == b"answer"
        had[server.fileno()] += 1
    return had


def accept_connections(servers: list[socket.socket], address: tuple[str, int]) -> Counter[int]:
    """Connect and accept; return how many connections each server had."""
    had = Counter[int]()
    for _ in range(REQUESTS):
        with socket.create_connection(address):
            server = ready(servers)
            server.accept()[0].close()
        had[server.fileno()] += 1
    return had


def flood(servers: list[socket.socket], address: tuple[str, int]) -> Counter[int]:
    """Send more than the servers have room for before they read; return how many each had room for."""
    for _ in range(FLOOD):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"request", address)
    had = Counter[int]()
    while waiting := select.select(servers, [], [], 0)[0]:
        for server in waiting:
            server.recv(100)
            had[server.fileno()] += 1
    return had


def counted(protocol: str, output: str) -> Counter[int]:
    """Return what the watch counted for each of this process's sockets, by descriptor, over all its lines."""
    total = Counter[int]()
    for descriptor, count in re.findall(rf"; {protocol} \S+\[{os.getpid()}\] fd (\d+) \+(\d+) ", output):
        total[int(descriptor)] += int(count)
    return total


def test_counts_are_what_the_servers_had() -> None:
    attached = KPROBES.read_text()
    with ExitStack() as opened:
        first = opened.enter_context(member(socket.SOCK_DGRAM, 0))
        address = first.getsockname()
        udp = [first, *(opened.enter_context(member(socket.SOCK_DGRAM, address[1])) for _ in range(MEMBERS - 1))]
        tcp = [opened.enter_context(member(socket.SOCK_STREAM, address[1])) for _ in range(MEMBERS)]
        command = [*WATCH, str(address[1])]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert watch.stdout is not None
        first_line = watch.stdout.readline()
        assert "6 sockets; idle" in first_line
        assert KPROBES.read_text() != attached
        accepted = accept_connections(tcp, address)
        answered = answer_datagrams(udp, address)
        queued = flood(udp, address)
        output, errors = watch.communicate()
    assert (watch.returncode, errors) == (0, "")
    assert KPROBES.read_text() == attached
    assert len(output.splitlines()) == 9
    assert counted("tcp", output) == accepted
    assert counted("udp", output) == answered + queued
    refused = FLOOD - queued.total()
    assert refused > 0
    assert sum(map(int, re.findall(r"; by hash, no SK_REUSEPORT program (\d+)", output))) == 2 * REQUESTS + FLOOD
    cause = "SOCKET_RCVBUFF" if running().series >= (5, 17) else r"in \w*udp_queue_rcv\w+"
    assert sum(map(int, re.findall(rf"; dropped: .*{cause} (\d+)", output))) == refused

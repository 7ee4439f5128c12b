# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What `python -m harness watch` counts and says, apart from the kernel that counts."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.commands.watch import line
from harness.trace.group_counters import Counts, Traffic
from harness.trace.proc_sockets import Bound, bound_to, owners

_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
_TCP = (
    _HEAD
    + "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n"
    + "   1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n"
)
_UDP6 = _HEAD + (
    "   0: B80D0120000000000000000001000000:1F90 00000000000000000000000000000000:0000 07"
    " 00000000:00000000 00:00000000 00000000     0        0 42 2 0 0\n"
)


def test_members_are_udp_sockets_and_listeners_of_the_port(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(_TCP)
    (tmp_path / "udp6").write_text(_UDP6)
    assert bound_to(8080, tmp_path) == [
        Bound(inode=4711, protocol="tcp", address="127.0.0.1"),
        Bound(inode=42, protocol="udp", address="2001:db8::1"),
    ]
    assert bound_to(8081, tmp_path) == []


def test_sockets_of_this_process_are_found_with_their_owner() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        inode = os.fstat(made.fileno()).st_ino
        assert [bound.inode for bound in bound_to(made.getsockname()[1])] == [inode]
        assert owners([inode])[inode].endswith(f"[{os.getpid()}]")


def test_of_several_processes_that_hold_a_socket_the_one_that_waits_is_its_owner() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, select.epoll() as epoll:
        inode = os.fstat(made.fileno()).st_ino
        held = [sys.executable, "-c", "input()"]
        with subprocess.Popen(held, stdin=subprocess.PIPE, pass_fds=[made.fileno()]) as other:
            assert owners([inode])[inode].endswith(f"[{other.pid}]"), "it came last"
            epoll.register(made.fileno(), select.EPOLLIN)
            assert owners([inode])[inode].endswith(f"[{os.getpid()}]")
            other.communicate(b"\n")


@pytest.mark.parametrize("waited_on", [False, True])
def test_sockets_of_one_process_are_told_apart(waited_on: bool) -> None:
    """A server with a thread for each socket: unbound, knotd."""
    comm = Path("/proc/self/comm").read_text().strip()
    with ExitStack() as opened:
        made = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        epoll = opened.enter_context(select.epoll())
        for one in made:
            if waited_on:
                epoll.register(one.fileno(), select.EPOLLIN)
        found = owners(os.fstat(one.fileno()).st_ino for one in made)
        assert list(found.values()) == [f"{comm}[{os.getpid()}] fd {one.fileno()}" for one in made]


def test_line_shows_what_an_interval_added() -> None:
    before = Counts(seconds=1.0, members={0: Traffic(5, 50, 0, 5)}, selections=(5, 0, 0, 0), drops={"NO_SOCKET": 1})
    after = Counts(
        seconds=2.0,
        members={0: Traffic(8, 80, 0, 8), 1: Traffic(connections=2)},
        selections=(8, 0, 1, 0),
        drops={"NO_SOCKET": 2, "SOCKET_RCVBUFF": 3},
    )
    bound = [Bound(inode=inode, protocol=protocol, address="::") for inode, protocol in ((0, "udp"), (1, "tcp"))]
    assert line(53, bound, after.since(before)).partition(" ")[2] == (
        "port 53: 2 sockets; udp 0 +3 packets; tcp 1 +2 connections; by program 3; dropped by program 1; "
        "dropped: NO_SOCKET 1, SOCKET_RCVBUFF 3"
    )
    assert line(53, bound, after.since(after)).endswith("2 sockets; idle")
    full = Counts(members={1: Traffic(chosen=4)})
    assert line(53, bound, full).endswith("2 sockets; tcp 1 +0 connections"), "SYNs that a full queue refuses"


@pytest.mark.parametrize("words", [["0"], ["65536"], ["http"], ["80", "--interval", "0"], ["80", "--interval", "x"]])
def test_nonsense_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from harness.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["watch", *words])
    assert ended.value.code == 2
    assert "error: argument" in capsys.readouterr().err

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The wire where the kernel is late or the peer's socket is full: what cases cannot provoke, on the running kernel."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness.model.layout import Family, Protocol
from harness.model.outcome import ReplyKind
from harness.model.packets import Packet
from harness.wire import frames, veth
from harness.wire.namespace import write_sysctl
from harness.wire.veth import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.wire.namespace import Namespace

IGNORE = "net/ipv4/icmp_echo_ignore_all"


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Make a wire."""
    made = Wire()
    yield made
    made.close()


def test_new_wire_waits_until_its_links_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings that are lost while the links come up are sent again; here the kernel ignores them for a while."""
    monkeypatch.setattr(veth, "_SERVER_SYSCTLS", {**veth._SERVER_SYSCTLS, IGNORE: 1})
    inside: list[Namespace] = []
    connect = Wire._connect

    def connected(self: Wire, *, under_vrf: bool) -> None:
        inside.append(self.server)
        connect(self, under_vrf=under_vrf)

    def answer_later() -> None:
        time.sleep(0.5)
        with inside[0].inside():
            write_sysctl(IGNORE, 0)

    monkeypatch.setattr(Wire, "_connect", connected)
    later = threading.Thread(target=answer_later)
    later.start()
    started = time.monotonic()
    made = Wire()
    later.join()
    assert time.monotonic() - started > 0.4
    assert made.read_replies() == []
    made.close()


def test_ping_that_is_lost_among_many_replies_is_sent_again(wire: Wire) -> None:
    """A thread that never stops sending fills the peer's socket with replies: a ping's answer may not fit."""
    syn = frames.syn(Packet(protocol=Protocol.TCP, family=Family.IPV4, source_port=500))
    wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # room for a few frames
    over = threading.Event()
    rounds = [0]

    def flood() -> None:
        while not over.is_set():
            wire.post_many(syn * 256)
            rounds[0] += 1

    beside = threading.Thread(target=flood)
    beside.start()
    kinds: set[ReplyKind] = set()
    try:
        while rounds[0] < 200:
            kinds |= {reply.kind for reply in wire.read_replies()}
    finally:
        over.set()
        beside.join()
    assert kinds == {ReplyKind.RESET}

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which members are woken by what they receive. cases/test_migration.py has those that something migrates to."""

from __future__ import annotations

import select
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.cases import each_family, each_protocol, promise
from harness.model.layout import Protocol

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench
    from harness.model.layout import Family


ROUNDS = 3


@promise("wake.edge")
@each_protocol
@each_family
def test_every_packet_wakes_the_member_that_was_selected(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family
) -> None:
    """Each packet is an event of edge-triggered epoll on the member that it is for, read or not, and on no other.

    A kernel that woke only for the first datagram in the queue left threads asleep (612b1c0dec5b, taken back in 6.13).
    """
    members = bench.group(3, protocol, family)
    attach_reference(members)
    with ExitStack() as undo:
        polls = [undo.enter_context(select.epoll()) for _ in members]
        for poll, number in zip(polls, members, strict=True):
            poll.register(bench[number].fileno(), select.EPOLLIN | select.EPOLLET)
        for _ in range(ROUNDS):
            for index, poll in enumerate(polls):
                packet = bench.packet(index, protocol, family)
                if protocol is Protocol.UDP:
                    bench.send_and_capture(packet)
                else:
                    bench.open_connections([packet])
                assert poll.poll(0) == [(bench[members[index]].fileno(), select.EPOLLIN)]
                assert [each.poll(0) for each in polls] == [[]] * 3

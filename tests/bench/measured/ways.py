# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The harness's fast ways against the plain ways to do the same."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from harness.model.layout import GROUP_PORT, Family, Protocol
from harness.model.packets import Packet
from harness.wire import frames
from harness.wire.headers import PEER_MAC, SERVER_MAC

from .scene import scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..measurement import Desk, Round, Take

PLAIN, FAST = "plain", "ours"

_PACKETS = 256
_VARIANT = "by_source_port"


@contextmanager
def crafting(desk: Desk) -> Iterator[Take]:
    """Yield what has scapy build each of many datagrams, and what patches bytes into one; microseconds a datagram."""
    del desk
    packets = [
        Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=20_000 + number, payload=bytes(8))
        for number in range(_PACKETS)
    ]

    def take() -> Round:
        return {
            PLAIN: _seconds(lambda: [_built(packet) for packet in packets]) / _PACKETS * 1e6,
            FAST: _seconds(lambda: [frames.datagram(packet) for packet in packets]) / _PACKETS * 1e6,
        }

    yield take


@contextmanager
def keeping(desk: Desk) -> Iterator[Take]:
    """Yield what makes a group with its program anew, and what puts one back that lost its members; milliseconds."""
    del desk
    with scene() as made:
        group = made.group(_VARIANT)

        def make_anew() -> None:
            with made.loaded(_VARIANT) as program:
                made.new_group(program, port=GROUP_PORT + 1).close()

        def take() -> Round:
            return {PLAIN: _seconds(make_anew) * 1000, FAST: _seconds(group.restore) * 1000}

        yield take


def _built(packet: Packet) -> bytes:
    layers = (
        Ether(src=PEER_MAC, dst=SERVER_MAC)
        / IP(src=packet.source, dst=packet.destination)
        / UDP(sport=packet.source_port, dport=packet.destination_port)
        / Raw(packet.payload)
    )
    return bytes(layers)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun

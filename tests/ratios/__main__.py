# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Measure the harness's ways against the plain ones, side by side, and print the ratios (needs root).

Each pair runs in turn, plain and ours, and the median of the pairs' ratios is printed: a ratio of one run means
something on any machine, a number of seconds does not.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from harness.group.delivery import Delivery
from harness.group.reuseport_group import ReuseportGroup
from harness.kernel.preflight import missing_requirement
from harness.loader.compiler import compile_variants
from harness.loader.program import Program
from harness.model.layout import GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.packets import Packet
from harness.model.variants import VARIANTS
from harness.wire import frames
from harness.wire.headers import PEER_MAC, SERVER_MAC
from harness.wire.veth import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 7
PACKETS = 256
SHAPE = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A claim, and the two ways to do the same work."""

    claim: str
    plain: Callable[[], object]
    ours: Callable[[], object]


def main() -> int:
    """Print the table; return 4 where the cases could not run either."""
    if reason := missing_requirement():
        print(reason, file=sys.stderr)
        return 4
    table = Table("what", "plain", "ours", "times faster (median, min to max)")
    wire = Wire()
    try:
        with _load() as program:
            group = ReuseportGroup(SHAPE, program, size=GROUP_SIZE, settings=wire.settings)
            pairs = list(_pairs(wire, group))
            for pair in track(pairs, "measuring", console=Console(stderr=True), transient=True):
                table.add_row(pair.claim, *_measure(pair))
            group.close()
    finally:
        wire.close()
    Console().print(table)
    return 0


def _pairs(wire: Wire, group: ReuseportGroup) -> Iterator[Pair]:
    packets = [
        Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=20000 + n, payload=bytes(8))
        for n in range(PACKETS)
    ]
    deliver = Delivery(wire, group)
    yield Pair(
        claim=f"craft {PACKETS} datagrams: scapy builds each / bytes are patched into one",
        plain=lambda: [_built(packet) for packet in packets],
        ours=lambda: [frames.datagram(packet) for packet in packets],
    )
    yield Pair(
        claim=f"deliver {PACKETS} datagrams: one at a time, everything compared / in batches",
        plain=lambda: [deliver(packet) for packet in packets],
        ours=lambda: deliver.send_many(packets),
    )
    yield Pair(
        claim=f"a fresh group of {GROUP_SIZE}: made anew / kept and put back",
        plain=_rebuild(group, wire),
        ours=group.restore,
    )


def _built(packet: Packet) -> bytes:
    layers = (
        Ether(src=PEER_MAC, dst=SERVER_MAC)
        / IP(src=packet.source, dst=packet.destination)
        / UDP(sport=packet.source_port, dport=packet.destination_port)
        / Raw(packet.payload)
    )
    return bytes(layers)


def _load() -> Program:
    name = "by_source_port"
    return Program(VARIANTS[name], compile_variants()[name], inner_map=SHAPE.inner_map, size=GROUP_SIZE)


def _rebuild(group: ReuseportGroup, wire: Wire) -> Callable[[], None]:
    def rebuild() -> None:
        with _load() as program:
            port = group.port + 1
            ReuseportGroup(SHAPE, program, size=GROUP_SIZE, settings=wire.settings, port=port).close()

    return rebuild


def _measure(pair: Pair) -> tuple[str, str, str]:
    pair.ours(), pair.plain()
    plain, ours = [], []
    for _ in range(ROUNDS):
        plain.append(_seconds(pair.plain))
        ours.append(_seconds(pair.ours))
    ratios = sorted(slow / quick for slow, quick in zip(plain, ours, strict=True))
    spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    return f"{statistics.median(plain) * 1000:.1f} ms", f"{statistics.median(ours) * 1000:.1f} ms", spread


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())

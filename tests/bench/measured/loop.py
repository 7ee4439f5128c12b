# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that are checked, against a loop in C that only sends the same frames and receives them."""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from harness.group.delivery import Delivery
from harness.model.layout import GROUP_SIZE, Family, Protocol
from harness.model.packets import Packet
from harness.wire import frames
from harness.wire.batch import NUMBER

from ..building import BARE_LOOP
from ..measurement import MeasuringError
from .scene import scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.group.reuseport_group import ReuseportGroup
    from harness.wire.veth import Wire

    from ..measurement import Desk, Round, Take

CHECKED, BARE = "checked", "bare loop"

_VARIANT = "by_source_port"
_FIRST_PORT = 20_000  # a multiple of the members: frame N reaches member N modulo their number
_SOME, _MANY = 512, 1024
_CHUNK, _TIMES, _REPEATS = 16, 15, 40
"""What is repeated to take the median: something else may have the CPU meanwhile."""


@contextmanager
def strict(desk: Desk) -> Iterator[Take]:
    """Yield what delivers packets one at a time, everything that can be seen compared; packets a second."""
    with _prepared(desk, _SOME, "single", payload=bytes(8)) as (deliver, packets, bare):

        def take() -> Round:
            seconds = []
            for some in (packets[at : at + _CHUNK] for at in range(0, len(packets), _CHUNK)):
                begun = time.perf_counter()
                for packet in some:
                    deliver(packet)
                seconds.append((time.perf_counter() - begun) / len(some))
            return {CHECKED: 1 / statistics.median(seconds), BARE: bare()}

        yield take


@contextmanager
def batched(desk: Desk) -> Iterator[Take]:
    """Yield what delivers packets in batches, the receiver of each looked up and all counted; packets a second."""
    with _prepared(desk, _MANY, "batch", payload=b"") as (deliver, packets, bare):
        deliver.send_many(packets)  # which makes the frames, that the bare loop is given too

        def take() -> Round:
            seconds = []
            for _ in range(_TIMES):
                begun = time.perf_counter()
                received = deliver.send_many(packets)
                seconds.append((time.perf_counter() - begun) / len(packets))
                assert received == [number % GROUP_SIZE for number in range(len(packets))]
            return {CHECKED: 1 / statistics.median(seconds), BARE: bare()}

        yield take


@contextmanager
def _prepared(
    desk: Desk, count: int, way: str, *, payload: bytes
) -> Iterator[tuple[Delivery, Sequence[Packet], Callable[[], float]]]:
    packets = tuple(
        Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=_FIRST_PORT + number, payload=payload)
        for number in range(count)
    )
    with scene() as made:
        group = made.group(_VARIANT)
        if way == "single":
            data = [frame for packet in packets for frame in frames.datagram(packet)]
        else:
            data = frames.datagrams(packets, [NUMBER.pack(number) for number in range(count)])
            group.make_room(count)
        yield Delivery(made.wire, group), packets, _bare(desk.built, way, data, made.wire, group)


def _bare(built: Path, way: str, data: Sequence[bytes], wire: Wire, group: ReuseportGroup) -> Callable[[], float]:
    """Return what runs the bare loop, on the same CPU with the same members, and returns packets a second."""
    file = built / f"{way}.frames"
    file.write_bytes(b"".join(data))
    members = [group.socket_of(member).fileno() for member in range(group.size)]

    def run() -> float:
        with closing(_link(wire)) as link:
            words = [way, str(link.fileno()), str(file), str(len(data[0])), str(_REPEATS), *map(str, members)]
            done = subprocess.run(
                [str(built / BARE_LOOP), *words],
                pass_fds=[link.fileno(), *members], capture_output=True, text=True, check=False,
            )  # fmt: skip
        group.program.new_results()
        if done.returncode:
            raise MeasuringError(f"the bare loop failed: {done.stderr.strip()}")
        return 1 / float(done.stdout)

    return run


def _link(wire: Wire) -> socket.socket:
    """Return a socket that sends at the peer's end of the wire, and receives nothing."""
    with wire.peer.inside():
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        (name,) = (name for _, name in socket.if_nameindex() if name != "lo")
        link.bind((name, 0))
    return link

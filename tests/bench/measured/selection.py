# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What choosing a member costs in the kernel, in groups of one to ten thousand members: it should not grow.

Before 4.6 a lookup walked every socket of a group. Kernels still do that for a group with a connected socket, which
stands here for those before.
"""

from __future__ import annotations

import resource
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.abi import MOST_NODES, TABLE_SIZE, pack_command
from harness.model.layout import GROUP_PORT, Family, Protocol
from harness.model.packets import Packet
from harness.wire import frames
from harness.wire.batch import AT_ONCE, portions

from ..measurement import MeasuringError
from .scene import scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.group.reuseport_group import ReuseportGroup

    from ..measurement import Desk, Round, Take
    from .scene import Scene

    Count = Callable[[ReuseportGroup], float]

SIZES = (1, 32, 128, 1024, 10_000)

_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
_FLOWS = 64
"""Clients that send all packets. The members that they reach stay in the CPU's caches: what is to be seen is work of
the kernel that grows with the group, not its memory."""
_PACKETS = 2048
_OTHER_FILES = 1000
_FEW = 256
"""Packets of a walk through the whole group."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to choose a member."""

    name: str
    says: str
    variant: str | None  # None: no program
    walks: bool = False  # whether a connected socket is in the group, so that the kernel looks at all


WAYS = (
    Way(name="no-program", says="no program, the kernel's hash", variant=None),
    Way(name="hash", says="a program by the kernel's hash", variant="by_hash"),
    Way(name="reference", says="reference program, one map", variant="reference_direct"),
    Way(name="map-in-map", says="reference program, map in map", variant="reference"),
    Way(name="maglev", says="Maglev's table", variant="maglev"),
    Way(name="rendezvous", says=f"rendezvous over {MOST_NODES} nodes", variant="rendezvous"),
    Way(name="walk", says="every socket looked at, as before 4.6", variant=None, walks=True),
)


def part(size: int) -> str:
    """Return the name of a group's size among the parts of a round."""
    return f"{size:,}"


GROWTH = (part(SIZES[-1]), part(SIZES[0]))
"""The ratio that a measurement is about."""


@contextmanager
def packets(way: Way, desk: Desk) -> Iterator[Take]:
    """Yield what sends packets to a group of each size, and returns microseconds a packet for each."""
    del desk
    with _groups(way) as (made, groups):
        sent = _datagrams(groups, count=_FEW if way.walks else _PACKETS)

        def take() -> Round:
            return {part(group.size): _usual(made, group, data, _seconds) * 1e6 for group, data in sent}

        yield take


@contextmanager
def run_time(way: Way, desk: Desk) -> Iterator[Take]:
    """Yield what has the kernel count how long a program runs (run_time_ns), and returns nanoseconds a run."""
    del desk
    if not _STATISTICS.exists():
        raise MeasuringError(f"this kernel has no {_STATISTICS}: it does not count how long programs run (before 5.1)")
    with _groups(way) as (made, groups):
        sent = _datagrams(groups, count=_PACKETS)

        def take() -> Round:
            return {part(group.size): _usual(made, group, data, _nanoseconds) for group, data in sent}

        before = _STATISTICS.read_text()
        _STATISTICS.write_text("1")
        try:
            yield take
        finally:
            _STATISTICS.write_text(before)


@contextmanager
def _groups(way: Way) -> Iterator[tuple[Scene, list[ReuseportGroup]]]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(SIZES) + _OTHER_FILES
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(most, needed)))
    except (OSError, ValueError) as error:
        why = f"this process may open {most} files, and {needed} are needed: raise 'ulimit -Hn'"
        raise MeasuringError(why) from error
    with scene() as made:
        yield made, [_group(made, way, size, port=GROUP_PORT + place) for place, size in enumerate(SIZES)]


def _group(made: Scene, way: Way, size: int, *, port: int) -> ReuseportGroup:
    group = made.group(way.variant or "always_pass", size=size, port=port)
    if way.variant is None:
        group.detach()
    if way.variant == "maglev":
        group.program.table = [entry % size for entry in range(TABLE_SIZE)]
    if way.variant == "rendezvous":
        group.program.table = [node % size | node // size << 16 for node in range(MOST_NODES)]
    if way.walks:
        made.connect_beside(group)
    return group


def _datagrams(groups: Sequence[ReuseportGroup], *, count: int) -> list[tuple[ReuseportGroup, list[bytes]]]:
    """Return frames for each group, of which each client's name a member of its own as far as there are so many."""
    sent = []
    for group in groups:
        flows = [
            Packet(protocol=Protocol.UDP, family=Family.IPV4, source_port=20_000 + flow, destination_port=group.port)
            for flow in range(_FLOWS)
        ]
        data = frames.datagrams(flows, [pack_command(flow * group.size // _FLOWS) for flow in range(_FLOWS)])
        sent.append((group, list(islice(cycle(data), count))))
    return sent


def _usual(made: Scene, group: ReuseportGroup, data: Sequence[bytes], count: Count) -> float:
    """Send frames; return what `count` grows by for one of a usual portion. Emptying the members is not in it.

    A portion is a fraction of a millisecond: the median knows nothing of those in which something else had the CPU, nor
    of the first, which finds the members out of its caches.
    """
    grown = []
    for portion in portions(data, AT_ONCE):
        before = count(group)
        made.wire.post_many(portion)
        made.wire.read_replies()
        grown.append((count(group) - before) / len(portion))
        received = sum(len(held) for held in group.collect().values())
        assert received == len(portion), f"of {len(portion)} packets {received} were received"
    return statistics.median(grown)


def _seconds(group: ReuseportGroup) -> float:
    del group
    return time.perf_counter()


def _nanoseconds(group: ReuseportGroup) -> float:
    """Return how long the kernel has counted the group's program to run."""
    lines = Path(f"/proc/self/fdinfo/{group.program.fd}").read_text().splitlines()
    return int(next(line.split(":")[1] for line in lines if line.startswith("run_time_ns:")))


PREPARE_PACKETS = {way.name: partial(packets, way) for way in WAYS}
PREPARE_RUN_TIME = {way.name: partial(run_time, way) for way in WAYS if way.variant is not None}

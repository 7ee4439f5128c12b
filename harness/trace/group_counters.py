# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Count in the kernel what the reuseport group of a port does: the tracer harness/trace/watch.c and its counters."""

from __future__ import annotations

import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.trace.probes import PROBES, Probe
from harness.trace.tracer import Tracer, kernel_drop_reasons, netns_inode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.loader.maps import Map

SELECTIONS = (
    "by program",
    "by hash, the program selected none",
    "dropped by program",
    "by hash, no SK_REUSEPORT program",
)
"""The ways in which a group decides, in the order of `enum selection`."""

_PROBES = tuple(
    Probe(shows=probe.shows, symbols=probe.symbols, enter=enter, leave=leave)
    for symbol, enter, leave in (
        ("reuseport_select_sock", "on_select", "on_selected"),
        ("bpf_run_sk_reuseport", "", "on_program_end"),
        ("__udp_enqueue_schedule_skb", "on_queue", "on_queued"),
        ("inet_csk_reqsk_queue_add", "on_accept_queue", ""),
        ("inet_csk_complete_hashdance", "on_complete", "on_completed"),
    )
    for probe in PROBES
    if symbol in probe.symbols
)
_FIRST = struct.pack("=I", 0)
_MEMBER = struct.Struct("=QII")
_TRAFFIC = struct.Struct("=QQQQ")
_SUM = struct.Struct("=Q")


@dataclass(frozen=True)
class Traffic:
    """What one member received: packets and bytes over UDP, connections over TCP, and how often it was selected."""

    packets: int = 0
    octets: int = 0
    connections: int = 0
    chosen: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.packets - earlier.packets,
            self.octets - earlier.octets,
            self.connections - earlier.connections,
            self.chosen - earlier.chosen,
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """All counts at one moment: of members by inode, of selections as in `SELECTIONS`, of drops by reason or function.

    `seconds` is the time of the monotonic clock, or the length of an interval.
    """

    seconds: float = 0.0
    members: Mapping[int, Traffic] = field(default_factory=dict)
    selections: tuple[int, ...] = (0,) * len(SELECTIONS)
    drops: Mapping[str, int] = field(default_factory=dict)

    def since(self, earlier: Counts) -> Counts:
        """Return what was added after `earlier`."""
        return Counts(
            seconds=self.seconds - earlier.seconds,
            members={inode: traffic - earlier.members.get(inode, Traffic()) for inode, traffic in self.members.items()},
            selections=tuple(now - then for now, then in zip(self.selections, earlier.selections, strict=True)),
            drops={reason: count - earlier.drops.get(reason, 0) for reason, count in self.drops.items()},
        )


class GroupCounters:
    """The counters in the kernel for one port, UDP and TCP, in this network namespace. Raises TracingError."""

    def __init__(self, port: int) -> None:
        self._reasons = kernel_drop_reasons()
        self._tracer = Tracer(["watch.c"], _PROBES, defines=("HAS_REASON",) if self._reasons else ())
        self.missing = self._tracer.missing
        """What this kernel does not let the counters see."""
        self._traffic = self._tracer.map("traffic", key_size=_MEMBER.size, value_size=_TRAFFIC.size)
        self._drops = self._tracer.map("drops", key_size=_SUM.size, value_size=_SUM.size)
        self._selections = self._tracer.map("selections", key_size=4, value_size=_SUM.size)
        watched = self._tracer.map("watched", key_size=4, value_size=8)
        watched.update(_FIRST, struct.pack("=II", port, netns_inode()))

    def read(self) -> Counts:
        """Return the counts since the start."""
        selections = [self._selections.at(number) for number in range(len(SELECTIONS))]
        drops = Counter[str]()
        for key, value in _items(self._drops):
            drops[self._cause(*_SUM.unpack(key))] += _SUM.unpack(value)[0]
        return Counts(
            seconds=time.monotonic(),
            members={_MEMBER.unpack(key)[1]: Traffic(*_TRAFFIC.unpack(value)) for key, value in _items(self._traffic)},
            selections=tuple(_SUM.unpack(value)[0] if value else 0 for value in selections),
            drops=drops,
        )

    def _cause(self, number: int) -> str:
        """Return the name of a drop reason or, where the kernel gives none, of the function that dropped."""
        if not self._reasons:
            return f"in {self._tracer.function_at(number)}"
        return self._reasons.get(number, f"reason {number}")

    def close(self) -> None:
        """Remove the counters from the kernel."""
        self._tracer.close()


def _items(table: Map) -> Iterator[tuple[bytes, bytes]]:
    key = table.next_key(None)
    while key is not None:
        if (value := table.lookup(key)) is not None:
            yield key, value
        key = table.next_key(key)

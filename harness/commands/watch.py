# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness watch PORT`: show a reuseport group as it is used. docs/watch.md describes it."""

from __future__ import annotations

import os
import select
import struct
import sys
import termios
import time
import tty
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.trace.probes import PROBES, Probe
from harness.trace.proc_sockets import bound_to, owners
from harness.trace.tracer import NoWitnessError, Tracer, kernel_drop_reasons, netns_inode, why_unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from harness.loader.maps import Map
    from harness.trace.proc_sockets import Bound

NAME = "watch"
HELP = (
    "show a reuseport group of this machine as it is used: what each member received, what the program decided, "
    "what was dropped and why; q or Ctrl-C ends, r counts anew"
)

_POINTS = tuple(
    Probe(tells=point.tells, symbols=point.symbols, enter=enter, leave=leave)
    for symbol, enter, leave in (
        ("reuseport_select_sock", "on_select", "on_selected"),
        ("bpf_run_sk_reuseport", "", "on_program_end"),
        ("__udp_enqueue_schedule_skb", "on_queue", "on_queued"),
        ("inet_csk_reqsk_queue_add", "on_accept_queue", ""),
        ("inet_csk_complete_hashdance", "on_complete", "on_completed"),
    )
    for point in PROBES
    if symbol in point.symbols
)
_VERDICTS = ("by program", "by hash, the program chose none", "dropped by program", "by hash, no program asked")
_UNAVAILABLE = 69  # EX_UNAVAILABLE (sysexits.h)
_ONLY = struct.pack("=I", 0)
_PLACE = struct.Struct("=QII")
_TRAFFIC = struct.Struct("=QQQQ")


@dataclass(frozen=True)
class Traffic:
    """Hold what one member received."""

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
    """Hold all counts at one moment; members by inode, drops by reason or place."""

    seconds: float = 0.0
    members: Mapping[int, Traffic] = field(default_factory=dict)
    verdicts: tuple[int, ...] = (0,) * len(_VERDICTS)
    drops: Mapping[str, int] = field(default_factory=dict)

    def since(self, earlier: Counts) -> Counts:
        """Return what was added after `earlier`."""
        return Counts(
            seconds=self.seconds - earlier.seconds,
            members={inode: traffic - earlier.members.get(inode, Traffic()) for inode, traffic in self.members.items()},
            verdicts=tuple(now - then for now, then in zip(self.verdicts, earlier.verdicts, strict=True)),
            drops={reason: count - earlier.drops.get(reason, 0) for reason, count in self.drops.items()},
        )


class Watcher:
    """Own the counters in the kernel."""

    def __init__(self, port: int) -> None:
        self._reasons = kernel_drop_reasons()
        self._tracer = Tracer("watch.c", _POINTS, defines=("HAS_REASON",) if self._reasons else ())
        self.missing = self._tracer.missing
        self._traffic = self._tracer.map("traffic", key_size=_PLACE.size, value_size=_TRAFFIC.size)
        self._drops = self._tracer.map("drops", key_size=8, value_size=8)
        self._verdicts = self._tracer.map("verdicts", key_size=4, value_size=8)
        watched = self._tracer.map("watched", key_size=4, value_size=8)
        watched.update(_ONLY, struct.pack("=II", port, netns_inode()))

    def read(self) -> Counts:
        """Return the counts since the start."""
        verdicts = [self._verdicts.lookup(struct.pack("=I", number)) for number in range(len(_VERDICTS))]
        drops = Counter[str]()
        for key, value in _items(self._drops):
            drops[self._cause(*struct.unpack("=Q", key))] += struct.unpack("=Q", value)[0]
        return Counts(
            seconds=time.monotonic(),
            members={_PLACE.unpack(key)[1]: Traffic(*_TRAFFIC.unpack(value)) for key, value in _items(self._traffic)},
            verdicts=tuple(struct.unpack("=Q", value)[0] if value else 0 for value in verdicts),
            drops=drops,
        )

    def _cause(self, number: int) -> str:
        """Return the words for a reason or, where the kernel gives none, for the place that dropped."""
        if not self._reasons:
            return f"in {self._tracer.symbol(number)}"
        return self._reasons.get(number, f"reason {number}")

    def close(self) -> None:
        """Take the counters out of the kernel."""
        self._tracer.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the port, and how often and how long to show it."""
    parser.add_argument("port", type=_port, metavar="PORT", help="the group's port, UDP and TCP")
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two looks (1)")
    parser.add_argument("--count", type=int, metavar="N", help="end after N looks")


def run(arguments: argparse.Namespace) -> int:
    """Show the group until a key, Ctrl-C or the last look ends it; 69 if this machine cannot be watched."""
    if reason := why_unavailable():
        print(f"cannot watch: {reason}", file=sys.stderr)
        return _UNAVAILABLE
    console = Console()
    with console.status("compiling the counters against this kernel's headers"):
        try:
            watcher = Watcher(arguments.port)
        except NoWitnessError as error:
            print(f"cannot watch: {error}", file=sys.stderr)
            return _UNAVAILABLE
    try:
        for what in watcher.missing:
            print(f"this kernel does not let {what} be seen", file=sys.stderr)
        if console.is_terminal:
            _show_live(watcher, arguments, console)
        else:
            _show_lines(watcher, arguments)
    except KeyboardInterrupt:
        pass  # the way that it is meant to end
    finally:
        watcher.close()
    return 0


def _show_live(watcher: Watcher, arguments: argparse.Namespace, console: Console) -> None:
    start = before = watcher.read()
    with _keys() as key, Live(console=console, auto_refresh=False, transient=False) as live:
        for _ in _looks(arguments.count):
            now = watcher.read()
            bound = bound_to(arguments.port)
            live.update(_table(arguments.port, bound, now.since(start), now.since(before)), refresh=True)
            before = now
            pressed = key(arguments.interval)
            if pressed == "q":
                return
            if pressed == "r":
                start = watcher.read()


def _show_lines(watcher: Watcher, arguments: argparse.Namespace) -> None:
    before = watcher.read()
    for _ in _looks(arguments.count):
        time.sleep(arguments.interval)
        now = watcher.read()
        print(line(arguments.port, bound_to(arguments.port), now.since(before)), flush=True)
        before = now


def line(port: int, bound: list[Bound], added: Counts) -> str:
    """Return one line for one interval: what each member received, what was decided, what was dropped."""
    who = owners(socket.inode for socket in bound)
    members = [
        f"{socket.protocol} {who.get(socket.inode, socket.inode)} {_amount(socket.protocol, traffic)}"
        for socket in bound
        if (traffic := added.members.get(socket.inode, Traffic())) != Traffic()
    ]
    verdicts = [f"{name} {count}" for name, count in zip(_VERDICTS, added.verdicts, strict=True) if count]
    drops = [f"{reason} {count}" for reason, count in added.drops.items() if count]
    parts = [f"{len(bound)} sockets", *(members or ["idle"]), *verdicts]
    return f"{time.strftime('%H:%M:%S')} port {port}: " + "; ".join(
        [*parts, *([f"dropped: {', '.join(drops)}"] if drops else [])]
    )


def _amount(protocol: str, traffic: Traffic) -> str:
    return f"+{traffic.packets} packets" if protocol == "udp" else f"+{traffic.connections} connections"


def _table(port: int, bound: list[Bound], total: Counts, last: Counts) -> Group:
    who = owners(socket.inode for socket in bound)
    table = Table(title=f"port {port}, {total.seconds:.0f} s", title_justify="left", expand=False)
    table.add_column("member")
    table.add_column("bound to")
    for heading in ("packets", "/s", "bytes", "connections", "/s", "share"):
        table.add_column(heading, justify="right")
    chosen = {
        protocol: sum(
            total.members.get(socket.inode, Traffic()).chosen for socket in bound if socket.protocol == protocol
        )
        for protocol in {socket.protocol for socket in bound}
    }
    for socket in bound:
        traffic, recent = (counts.members.get(socket.inode, Traffic()) for counts in (total, last))
        share = traffic.chosen / chosen[socket.protocol] if chosen[socket.protocol] else 0.0
        udp = socket.protocol == "udp"
        table.add_row(
            who.get(socket.inode, f"inode {socket.inode}"),
            f"{socket.protocol} {socket.address}",
            str(traffic.packets) if udp else "",
            f"{recent.packets / max(last.seconds, 0.001):.0f}" if udp else "",
            str(traffic.octets) if udp else "",
            "" if udp else str(traffic.connections),
            "" if udp else f"{recent.connections / max(last.seconds, 0.001):.0f}",
            f"{share:.0%}",
        )
    decided = [f"{name} {count}" for name, count in zip(_VERDICTS, total.verdicts, strict=True) if count]
    drops = [f"{reason} {count}" for reason, count in total.drops.items()]
    return Group(
        table,
        Text(f"selected: {', '.join(decided) or 'nothing yet'}"),
        Text(f"dropped: {', '.join(drops) or 'nothing'}"),
        Text("q ends, r counts anew", style="dim"),
    )


def _items(table: Map) -> Iterator[tuple[bytes, bytes]]:
    key = table.next_key(None)
    while key is not None:
        if (value := table.lookup(key)) is not None:
            yield key, value
        key = table.next_key(key)


def _looks(count: int | None) -> Iterator[int]:
    number = 0
    while count is None or number < count:
        yield number
        number += 1


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits so many seconds for a key and returns it, "" if none came."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield lambda seconds: os.read(terminal, 1).decode() if select.select([terminal], [], [], seconds)[0] else ""
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise ValueError(text)
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError(text)
    return seconds

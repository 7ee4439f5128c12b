# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness watch PORT`: show a reuseport group while it is used. docs/watch.md describes it."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.trace.group_counters import SELECTIONS, GroupCounters, Traffic
from harness.trace.proc_sockets import bound_to, owners
from harness.trace.tracer import TracingError, why_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.trace.group_counters import Counts
    from harness.trace.proc_sockets import Bound

NAME = "watch"
HELP = "show how the traffic of a port of this machine is shared between its sockets"
DESCRIPTION = """\
Show a reuseport group of this machine while it is used: the packets and connections of each member, what the attached
program decided, what was dropped and why. Needs root, bcc, and the running kernel's headers. On a terminal the table is
redrawn (q or Ctrl-C ends, r counts anew); elsewhere it is a line an interval. Exit status: 0, or 69 when this machine
cannot be watched, with the reason."""

_UNAVAILABLE = 69  # EX_UNAVAILABLE (sysexits.h)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the port, the interval, and the number of times to show the counts."""
    parser.add_argument("port", type=_port, metavar="PORT", help="the group's port, UDP and TCP")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two displays (default: %(default)g)",
    )
    parser.add_argument("--count", type=int, metavar="N", help="end after N displays (default: go on)")


def run(arguments: argparse.Namespace) -> int:
    """Show the group until q, Ctrl-C or --count ends it; return 69 if this machine cannot be watched."""
    if reason := why_unavailable():
        print(f"cannot watch: {reason}", file=sys.stderr)
        return _UNAVAILABLE
    console = Console()
    with console.status("compiling the counters against this kernel's headers"):
        try:
            counters = GroupCounters(arguments.port)
        except TracingError as error:
            print(f"cannot watch: {error}", file=sys.stderr)
            return _UNAVAILABLE
    try:
        for what in counters.missing:
            print(f"this kernel does not show {what}", file=sys.stderr)
        if console.is_terminal:
            _show_live(counters, arguments, console)
        else:
            _show_lines(counters, arguments)
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        counters.close()
    return 0


def _show_live(counters: GroupCounters, arguments: argparse.Namespace, console: Console) -> None:
    start = before = counters.read()
    with _keys() as key, Live(console=console, auto_refresh=False, transient=False) as live:
        for _ in _times(arguments.count):
            now = counters.read()
            bound = bound_to(arguments.port)
            live.update(_table(arguments.port, bound, now.since(start), now.since(before)), refresh=True)
            before = now
            pressed = key(arguments.interval)
            if pressed == "q":
                return
            if pressed == "r":
                start = counters.read()


def _show_lines(counters: GroupCounters, arguments: argparse.Namespace) -> None:
    before = counters.read()
    for _ in _times(arguments.count):
        time.sleep(arguments.interval)
        now = counters.read()
        print(line(arguments.port, bound_to(arguments.port), now.since(before)), flush=True)
        before = now


def line(port: int, bound: list[Bound], added: Counts) -> str:
    """Return the line for one interval: what each member received, how it was selected, what was dropped."""
    owner = owners(socket.inode for socket in bound)
    members = [
        f"{socket.protocol} {owner.get(socket.inode, socket.inode)} {_amount(socket.protocol, traffic)}"
        for socket in bound
        if (traffic := added.members.get(socket.inode, Traffic())) != Traffic()
    ]
    selections = [f"{name} {count}" for name, count in zip(SELECTIONS, added.selections, strict=True) if count]
    drops = [f"{reason} {count}" for reason, count in added.drops.items() if count]
    parts = [f"{len(bound)} sockets", *(members or ["idle"]), *selections]
    return f"{time.strftime('%H:%M:%S')} port {port}: " + "; ".join(
        [*parts, *([f"dropped: {', '.join(drops)}"] if drops else [])]
    )


def _amount(protocol: str, traffic: Traffic) -> str:
    return f"+{traffic.packets} packets" if protocol == "udp" else f"+{traffic.connections} connections"


def _table(port: int, bound: list[Bound], total: Counts, last: Counts) -> Group:
    owner = owners(socket.inode for socket in bound)
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
            owner.get(socket.inode, f"inode {socket.inode}"),
            f"{socket.protocol} {socket.address}",
            str(traffic.packets) if udp else "",
            f"{recent.packets / max(last.seconds, 0.001):.0f}" if udp else "",
            str(traffic.octets) if udp else "",
            "" if udp else str(traffic.connections),
            "" if udp else f"{recent.connections / max(last.seconds, 0.001):.0f}",
            f"{share:.0%}",
        )
    selections = [f"{name} {count}" for name, count in zip(SELECTIONS, total.selections, strict=True) if count]
    drops = [f"{reason} {count}" for reason, count in total.drops.items()]
    return Group(
        table,
        Text(f"selected: {', '.join(selections) or 'nothing yet'}"),
        Text(f"dropped: {', '.join(drops) or 'nothing'}"),
        Text("q ends, r starts the counts again", style="dim"),
    )


def _times(count: int | None) -> Iterator[int]:
    number = 0
    while count is None or number < count:
        yield number
        number += 1


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits that many seconds for a key and returns it, "" if none was pressed."""
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
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a whole number from 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: give seconds from 0.1 to 3600")
    return seconds

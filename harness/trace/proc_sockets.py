# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""List the sockets of this network namespace that may be members of a group, and the processes that hold them."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TABLES = ("udp", "udp6", "tcp", "tcp6")
_LISTEN = "0A"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One socket that is bound to the port: a UDP socket or a TCP listener."""

    inode: int
    protocol: str
    address: str


def bound_to(port: int, root: Path = Path("/proc/thread-self/net")) -> list[Bound]:
    """Return the UDP sockets and TCP listeners of a port, by protocol and inode."""
    found = []
    for table in _TABLES:
        try:
            lines = (root / table).read_text().splitlines()[1:]
        except FileNotFoundError:  # no IPv6
            continue
        for line in lines:
            _, local, _, state, *rest = line.split()
            address, _, local_port = local.partition(":")
            if int(local_port, 16) == port and (table.startswith("udp") or state == _LISTEN):
                found.append(Bound(inode=int(rest[5]), protocol=table.rstrip("6"), address=_address(address)))
    return sorted(found, key=lambda bound: (bound.protocol, bound.inode))


def owners(inodes: Iterable[int], proc: Path = Path("/proc")) -> dict[int, str]:
    """Return the process that uses each socket, as "nginx[77]", by inode.

    That is the one that waits on it by epoll(7), or else the last that was forked with it: a server that opens its
    sockets before it forks leaves every worker holding all of them. A server with a thread for each socket is a single
    process: where a process has several sockets, they are told apart as "unbound[77] fd 4".
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holding: dict[int, tuple[str, int]] = {}
    waiting: dict[int, tuple[str, int]] = {}
    for process in sorted((path for path in proc.iterdir() if path.name.isdigit()), key=_started):
        try:
            links = list((process / "fd").iterdir())
            owner = f"{(process / 'comm').read_text().strip()}[{process.name}]"
        except OSError:  # it has ended, or is another user's
            continue
        for link in links:
            with suppress(OSError):  # closed meanwhile
                target = str(link.readlink())
                if (inode := wanted.get(target)) is not None:
                    holding[inode] = (owner, int(link.name))
                elif target == "anon_inode:[eventpoll]":
                    waited_on = _waited_on(process / "fdinfo" / link.name)
                    waiting |= {inode: (owner, descriptor) for inode, descriptor in waited_on.items()}
    using = {inode: waiting.get(inode, holder) for inode, holder in holding.items()}
    count = Counter(owner for owner, _ in using.values())
    return {
        inode: f"{owner} fd {descriptor}" if count[owner] > 1 else owner for inode, (owner, descriptor) in using.items()
    }


def _started(process: Path) -> tuple[int, int]:
    """Return a key that sorts processes by their start (proc(5): field 22 of stat); their numbers wrap around."""
    try:
        started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    except OSError:  # it has ended
        started = 0
    return started, int(process.name)


def _waited_on(epoll: Path) -> dict[int, int]:
    """Return the descriptors that an epoll descriptor waits on, by inode (proc(5): /proc/PID/fdinfo)."""
    found = re.findall(r"^tfd:\s*(\d+).*\bino:([0-9a-f]+)", epoll.read_text(), re.MULTILINE)
    return {int(inode, 16): int(descriptor) for descriptor, inode in found}


def _address(text: str) -> str:
    """Return the address that /proc writes as words of four bytes in host order."""
    words = (int(text[start : start + 8], 16).to_bytes(4, "little") for start in range(0, len(text), 8))
    return str(ipaddress.ip_address(b"".join(words)))

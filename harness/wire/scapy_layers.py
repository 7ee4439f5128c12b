# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The layers of scapy that packets are made of, imported without two things that scapy does at its import.

It generates a key to see whether `cryptography` works, which takes 1.5 s in a guest under emulation; nothing here
encrypts. It reads routes to choose source addresses; packets here have theirs.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scapy.config import conf

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Make imports of a module fail as if it were not installed, unless it was imported before."""
    modules: dict[str, Any] = sys.modules
    if name in modules:
        yield
        return
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]


@contextmanager
def _without_routes() -> Iterator[None]:
    """Keep scapy from reading routes; `conf.route.resync()` reads them later."""
    before = conf.route_autoload, conf.route6_autoload
    conf.route_autoload = conf.route6_autoload = False
    try:
        yield
    finally:
        conf.route_autoload, conf.route6_autoload = before


with _absent("cryptography"), _without_routes():
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw
    from scapy.utils import hexdump

__all__ = [
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "Ether",
    "ICMPv6DestUnreach",
    "ICMPv6PacketTooBig",
    "IPv6",
    "IPv6ExtHdrFragment",
    "Raw",
    "hexdump",
]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The layers of scapy that packets are made of, imported without three things that scapy does at its import.

It generates a key to see whether `cryptography` works, which takes 1.5 s in a guest under emulation; nothing here
encrypts. It reads routes to choose source addresses; packets here have theirs. It loads the manufacturers of devices,
a quarter of the time of its import; nothing here asks for them. That was read in scapy 2.8.0: one that loads them in
another way does so here too.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import scapy.main
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


@contextmanager
def _without_manufacturers() -> Iterator[None]:
    """Keep scapy from loading manufacturers, and from keeping in its cache that there are none."""
    empty = {"scapy.libs.manuf": "", "scapy.libs.bluetoothids": {}}
    before, scapy.main.SCAPY_CACHE_FOLDER = getattr(scapy.main, "SCAPY_CACHE_FOLDER", None), None
    for name, data in empty.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name])["DATA"] = data
    try:
        yield
    finally:
        scapy.main.SCAPY_CACHE_FOLDER = before
        for name in empty:
            del sys.modules[name]


with _absent("cryptography"), _without_routes(), _without_manufacturers():
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (
        ICMPv6DestUnreach,
        ICMPv6PacketTooBig,
        ICMPv6ParamProblem,
        ICMPv6TimeExceeded,
        IPv6,
        IPv6ExtHdrFragment,
    )
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
    "ICMPv6ParamProblem",
    "ICMPv6TimeExceeded",
    "IPv6",
    "IPv6ExtHdrFragment",
    "Raw",
    "hexdump",
]

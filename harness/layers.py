# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The layers of scapy that packets are made of, without the cryptography that scapy tries out as it is imported.

Generating a key to see whether that works takes a guest under emulation a second and a half, and nothing here encrypts.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Have imports of a module fail as if it were not installed, unless it was imported before."""
    modules: dict[str, Any] = sys.modules
    if name in modules:
        yield
        return
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]


with _absent("cryptography"):
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw
    from scapy.utils import hexdump

__all__ = ["ICMP", "IP", "TCP", "UDP", "Ether", "ICMPv6DestUnreach", "IPv6", "IPv6ExtHdrFragment", "Raw", "hexdump"]

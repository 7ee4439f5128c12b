# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A packet that is bent: valid layers, and what is wrong or rare about each of them. Pure.

harness/wire/bend.py makes frames of it; harness/model/reception/ says what the kernel does with such frames.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum
from harness.model.uapi import TCP_SYN

USUAL_PORT = 20000
USUAL_PAYLOAD = 8
"""Bytes of a command (`struct cmd`)."""


@dataclass(frozen=True, kw_only=True)
class Bent:
    """One packet. A field that is None, 0 or empty is as it should be; the defaults are a valid datagram.

    Lengths are in bytes unless said otherwise.
    """

    protocol: Protocol = Protocol.UDP
    family: Family = Family.IPV4
    index: int = 0
    """The slot that the payload names."""
    payload: int = USUAL_PAYLOAD
    """Length of the payload: under 8 the command is cut, the rest counts up from 0."""
    source_port: int = USUAL_PORT
    assigned: bool = False
    """Sent to a port of which traffic control knows the member: bpf_sk_assign() at ingress."""
    checksum: Checksum = Checksum.RIGHT
    """The transport's."""
    stated_length: int | None = None
    """UDP's own length field."""
    flags: int = TCP_SYN
    """TCP's flags."""
    data_offset: int | None = None
    """TCP's data offset, in words."""
    next_header: int | None = None
    """The number of the protocol that the last header before the transport names."""
    vlans: tuple[int, ...] = ()
    """Tags from the outside in."""
    version: int | None = None
    """IP's version."""
    header_words: int | None = None
    """IPv4's header length (IHL), in words."""
    more_length: int = 0
    """What IP's length field says more than there is; less, if negative."""
    header_checksum: Checksum = Checksum.RIGHT
    """IPv4's own."""
    hop_limit: int = 64
    options: bytes = b""
    """IPv4: whole words."""
    extensions: tuple[tuple[int, bytes], ...] = ()
    """IPv6: each a header's number and its bytes, of which the first is filled in with the next header's number."""
    fragments: tuple[tuple[int, int, bool], ...] = ()
    """Where each fragment starts and ends, from the transport header on, and whether it says that more follow."""
    trailer: int = 0
    """Bytes behind the IP packet, as Ethernet's padding."""
    cut: int = 0
    """Bytes that are cut off the end of each frame."""

    def changed(self) -> dict[str, Any]:
        """Return the fields that are not as usual."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) != item.default}

    def __str__(self) -> str:
        """Return the packet in words: its protocol, family and slot, and what is not as usual."""
        told = [
            f"{name} {'+'.join(map(_spelled, value)) if isinstance(value, tuple) else _spelled(value)}"
            for name, value in self.changed().items()
            if name not in {"protocol", "family", "index"}
        ]
        return ", ".join([f"{self.protocol.upper()} over {self.family} for slot {self.index}", *told])


def _spelled(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex(" ")
    if isinstance(value, tuple):
        return "/".join(map(_spelled, value))
    return str(value)

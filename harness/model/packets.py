# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is sent to a group. Pure: the model predicts from it, and harness/wire/frames.py turns it into bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from harness.model.layout import GROUP_PORT, Family, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.malformed import Malformation

TRANSPORT_HEADER = {Protocol.UDP: 8, Protocol.TCP: 24}
"""Bytes before the payload; a crafted SYN carries one option, the 4 bytes of MSS."""

ACK_HEADER = 20
"""Bytes before the payload of every other TCP segment: no options."""

SYN_SEQUENCE = 1000
"""The sequence number of every crafted SYN."""

_SHOWN = 16  # bytes of a payload in messages


class PacketFields(TypedDict, total=False):
    """Fields of a `Packet` that a case sets by name, besides the payload."""

    source_port: int
    destination_port: int
    source_address: str | None
    fragments: tuple[int, ...]
    ack_payload: bytes | None
    malformation: Malformation | None


@dataclass(frozen=True, kw_only=True)
class Packet:
    """One datagram, or one TCP connection from its SYN to the ACK that completes the handshake.

    `payload` is the datagram's, or the SYN's. `fragments` are the offsets, in bytes from the transport header and
    multiples of 8, where IP cuts the packet. `ack_payload` is what the completing ACK carries; with None that ACK is
    never sent.
    """

    protocol: Protocol
    family: Family
    source_port: int
    payload: bytes = b""
    destination_port: int = GROUP_PORT
    fragments: tuple[int, ...] = ()
    ack_payload: bytes | None = b""
    source_address: str | None = None
    """Its source, in canonical form; None for the family's usual peer."""
    malformation: Malformation | None = None
    """What is unusual about the frames of the datagram or the SYN."""

    @property
    def source(self) -> str:
        """Return the source address."""
        return self.source_address or self.family.peer

    @property
    def destination(self) -> str:
        """Return the destination address."""
        return self.family.server

    @property
    def full_length(self) -> int:
        """Return the length of the datagram or the SYN as it is sent, in bytes from the transport header on."""
        return TRANSPORT_HEADER[self.protocol] + len(self.payload)

    @property
    def transport_length(self) -> int:
        """Return the length that the kernel takes it to have: a UDP header may state less than was sent."""
        if self.malformation is not None and self.malformation.stated_length:
            return min(self.full_length, self.malformation.stated_length)
        return self.full_length

    @property
    def delivered_payload(self) -> bytes:
        """Return the part of the payload that a receiver gets: as much as the UDP header states."""
        return self.payload[: self.transport_length - TRANSPORT_HEADER[self.protocol]]

    def __str__(self) -> str:
        source, destination = (
            f"[{address}]" if self.family is Family.IPV6 else address for address in (self.source, self.destination)
        )
        words = [
            f"{self.protocol.upper()} {source}:{self.source_port} > {destination}:{self.destination_port}",
            f"{len(self.payload)} bytes of payload" + (f": {_shortened(self.payload)}" if self.payload else ""),
        ]
        if self.malformation is not None and str(self.malformation):
            words.append(f"with {self.malformation}")
        if self.fragments:
            words.append(f"in fragments cut at byte {', '.join(map(str, self.fragments))}")
        if self.protocol is Protocol.TCP:
            words.append(
                "no ACK follows"
                if self.ack_payload is None
                else f"then an ACK with {_shortened(self.ack_payload) or 'no data'}"
            )
        return ", ".join(words)

    def from_each_port(self, ports: Iterable[int]) -> tuple[Packet, ...]:
        """Return the packet once for each source port."""
        made = []
        for port in ports:
            # Without __init__: it sets the fields of a frozen class one by one and takes ten times as long.
            packet = object.__new__(Packet)
            packet.__dict__.update(self.__dict__, source_port=port)
            made.append(packet)
        return tuple(made)


def _shortened(data: bytes) -> str:
    return data[:_SHOWN].hex(" ") + (" …" if len(data) > _SHOWN else "")

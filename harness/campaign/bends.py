# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that hypothesis draws: a valid one, and up to three things that are rare or wrong about it.

hypothesis draws bytes, ten for each packet, and `packet_of` reads them as one number whose digits choose. To draw each
choice by itself would take three quarters of a campaign's time.
"""

from __future__ import annotations

import socket
import struct
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from hypothesis import strategies

from harness.campaign.packets import MEMBERS
from harness.model.bent import USUAL_PAYLOAD, Bent
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum
from harness.model.packets import TRANSPORT_HEADER
from harness.model.uapi import TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypothesis.strategies import SearchStrategy

_HOP, _ROUTING, _FRAGMENT, _OPTIONS = (
    socket.IPPROTO_HOPOPTS, socket.IPPROTO_ROUTING, socket.IPPROTO_FRAGMENT, socket.IPPROTO_DSTOPTS,
)  # fmt: skip
_RESET_AND_ACK = TCP_RST | TCP_ACK
_EXPERIMENT = 253  # RFC 3692: a protocol that nobody has

_LENGTHS = sorted({
    0, 1, 4, 7, USUAL_PAYLOAD, 9, 16, 40, 300, 1400,
    # around the longest packet whose checksum is verified before the lookup
    *(76 - TRANSPORT_HEADER[protocol] + more for protocol in Protocol for more in (-1, 0, 1)),
})  # fmt: skip
_TAGS = (0, 0xE000, 1, 4094)
_NO_SOURCE_ROUTE = (b"\x83\x03\x04\0", b"\x89\x07\x04\xc0\0\2\7\0")
_IPV4_OPTIONS = (
    b"\1\1\1\1", b"\0\0\0\0", b"\x94\4\0\0", b"\x94\3\0\0",
    b"\7\7\4\0\0\0\0\0", b"\7\7\5\0\0\0\0\0", b"\7\7\x08\0\0\0\0\0", b"\7\3\3\0", b"\7\2\1\1",
    b"\x44\x08\5\0\0\0\0\0", b"\x44\x0c\5\1\0\0\0\0\0\0\0\0", b"\x44\x08\5\1\0\0\0\0", b"\x44\4\5\xf0", b"\x44\4\5\xe0",
    b"\x82\x0b\0\0\0\0\0\0\0\0\0\0", b"\x1e\4\0\0", b"\x1e\0\0\0", b"\x1e\1\0\0", b"\x1e\5\0\0", b"\1\1\1\x1e",
    b"\1" * 40, *_NO_SOURCE_ROUTE,
)  # fmt: skip


def _header(content: bytes) -> bytes:
    """Return an extension header with options: its first two bytes and the content, filled up with zeros."""
    length = (len(content) + 2 + 7) // 8
    return struct.pack("BB", 0, length - 1) + content + bytes(length * 8 - 2 - len(content))


_IPV6_OPTIONS = (
    b"\1\4\0\0\0\0", b"\1\4\0\0\0\1", b"\0\0\0\0\0\0", b"\1\6\0\0\0\0\0\0", b"\1\5\0\0\0\0",
    b"\5\2\0\0\1\0", b"\5\3\0\0\0\0", b"\x1e\4\0\0\0\0", b"\x5e\4\0\0\0\0", b"\x9e\4\0\0\0\0", b"\xde\4\0\0\0\0",
    b"\x1e\0" * 8 + b"\1\4\0\0\0\0", b"\x1e\0" * 9 + b"\1\2\0\0", b"\x1e\x0b\0\0\0\0",
)  # fmt: skip
_EXTENSIONS = (
    *((number, _header(content)) for number in (_OPTIONS, _HOP) for content in _IPV6_OPTIONS),
    (_FRAGMENT, b"\0\0\0\0\0\0\x5e\x18"),
    (_ROUTING, bytes(8)),
    (_ROUTING, b"\0\0\0\1" + bytes(4)),
    (_ROUTING, b"\0\1\5\0" + bytes(12)),
    (_OPTIONS, b"\0\xff" + bytes(6)),
)

_BYTES = 10
"""Bytes that one packet is drawn from."""

PACKETS = 40
"""Packets that are drawn and sent together: one example of hypothesis."""


class _Digits:
    """A number that is read digit by digit, each of another base. What is beyond its end is zero."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "big")

    def below(self, base: int) -> int:
        """Return the next digit, of that base."""
        self._left, digit = divmod(self._left, base)
        return digit

    def one_of(self, choices: Sequence[Any]) -> Any:
        """Return what the next digit chooses."""
        return choices[self.below(len(choices))]

    def some_of(self, choices: Sequence[Any], most: int) -> tuple[Any, ...]:
        """Return one to `most` of the choices."""
        return tuple(self.one_of(choices) for _ in range(1 + self.below(most)))


def _choice(*choices: Any) -> Callable[[_Digits], Any]:
    return lambda digits: digits.one_of(choices)


_ANY: Mapping[str, Callable[[_Digits], Any]] = {
    "payload": _choice(*_LENGTHS),
    "checksum": _choice(Checksum.WRONG, Checksum.ABSENT),
    "vlans": _choice(*((tag,) for tag in _TAGS), *product(_TAGS, repeat=2), (0,) * 8, (0,) * 9, (0,) * 12),
    "next_header": _choice(_EXPERIMENT, socket.IPPROTO_NONE),
    "version": _choice(*range(16)),
    "more_length": _choice(-1, 1, -4, 4, -8, 8, -9, 9, -16, -20, -28, 100, 1400, 65535),
    "hop_limit": _choice(0, 1, 255),
    "trailer": _choice(1, 18, 46, 200),
    "cut": _choice(1, 2, 4, 8, 9, 16, 20, 28, 36, 48, 60),
    "source_port": _choice(1, 53, 1023, 7000, 65535),
    "fragments": lambda _: (),  # made last: it depends on the length
}
_OF_PROTOCOL: Mapping[Protocol, Mapping[str, Callable[[_Digits], Any]]] = {
    Protocol.UDP: {"stated_length": _choice(*range(18), 40, 76, 77, 308, 1408, 1409, 65535)},
    Protocol.TCP: {
        "flags": _choice(*(
            first | second
            for first in (0, TCP_SYN, TCP_ACK, TCP_RST, TCP_FIN, TCP_SYN | TCP_FIN, TCP_SYN | TCP_ACK, _RESET_AND_ACK)
            for second in (0, TCP_PSH, TCP_URG, 0x40, 0x80, 0xC0)
        )),
        # Between 6 and 11 it depends on CONFIG_TCP_AO whether options are looked at (tcp_do_parse_auth_options).
        "data_offset": _choice(0, 1, 4, 5, 6, 11, 12, 13, 14, 15),
    },
}  # fmt: skip
_OF_FAMILY: Mapping[Family, Mapping[str, Callable[[_Digits], Any]]] = {
    Family.IPV4: {
        "header_words": _choice(*range(16)),
        "header_checksum": _choice(Checksum.WRONG, Checksum.ABSENT),
        "options": lambda digits: b"".join(digits.some_of(_IPV4_OPTIONS, 3))[:40],
    },
    Family.IPV6: {"extensions": lambda digits: digits.some_of(_EXTENSIONS, 3)},
}
_KINDS = {
    (protocol, family): {**_ANY, **_OF_PROTOCOL[protocol], **_OF_FAMILY[family]}
    for protocol in Protocol
    for family in Family
}
_NAMES = {kind: sorted(choices) for kind, choices in _KINDS.items()}
_MOST_BENDS = 3
_ASSIGNED = 8
"""One packet of so many is one that traffic control assigns."""
_WITH_ASSIGNING = ("payload", "checksum", "stated_length")
"""What may be bent of such a packet: traffic control looks at the places of the usual headers."""


def packet_of(data: bytes, *, assigning: bool) -> Bent:
    """Return the packet that some bytes are; `assigning`: it may be one that traffic control assigns."""
    digits = _Digits(data)
    kind = protocol, family = digits.one_of(list(_KINDS))
    names = sorted({digits.one_of(_NAMES[kind]) for _ in range(digits.below(_MOST_BENDS + 1))})
    assigned = digits.below(_ASSIGNED) == 1 and assigning
    if assigned:
        names = [name for name in names if name in _WITH_ASSIGNING]
    bends = {name: _KINDS[kind][name](digits) for name in names}
    if "fragments" in bends:
        bends["fragments"] = _fragments(digits, TRANSPORT_HEADER[protocol] + bends.get("payload", USUAL_PAYLOAD))
    if protocol is Protocol.TCP and bends.get("checksum") is Checksum.ABSENT:
        bends["checksum"] = Checksum.WRONG
    return Bent(protocol=protocol, family=family, index=digits.below(MEMBERS + 1), assigned=assigned, **bends)


def _fragments(digits: _Digits, length: int) -> tuple[tuple[int, int, bool], ...]:
    """Return fragments: the packet in pieces, in another order, one of them twice, left out, moved or stretched."""
    units = (length - 1) // 8
    # Often right behind the transport header: the kernel then holds the payload in another buffer than the header.
    cuts = (
        sorted({8 * digits.one_of((1, 1 + digits.below(units))) for _ in range(1 + digits.below(3))}) if units else []
    )
    edges = [0, *cuts, length]
    pieces = [(start, stop, stop < length) for start, stop in pairwise(edges)]
    pieces = [pieces.pop(digits.below(len(pieces))) for _ in range(len(pieces))]
    place, how = digits.below(len(pieces)), digits.below(8)
    start, stop, more = pieces[place]
    bent: Mapping[int, list[tuple[int, int, bool]]] = {
        1: [(start, stop, more)] * 2,
        2: [],
        3: [(max(start - 8, 0), stop, more)],
        4: [(start, stop + 8, more)],
        5: [(start, stop, not more)],
        6: [(start, stop, more), (start + 8, stop + 8, more)],
        7: [(start, max(stop - 4, start), more)],
    }
    return (*pieces[:place], *bent.get(how, [pieces[place]]), *pieces[place + 1 :])


def packets() -> SearchStrategy[bytes]:
    """Return the strategy for the bytes of what one example sends.

    Their number is fixed: otherwise hypothesis draws before each byte whether another one follows. Packets that a
    difference does not need are left out by `search.without_idle`.
    """
    return strategies.binary(min_size=PACKETS * _BYTES, max_size=PACKETS * _BYTES)


def reader(*, assigning: bool) -> Callable[[bytes], tuple[Bent, ...]]:
    """Return the function that makes the packets of the bytes."""
    return lambda data: tuple(
        packet_of(data[start : start + _BYTES], assigning=assigning) for start in range(0, len(data), _BYTES)
    )

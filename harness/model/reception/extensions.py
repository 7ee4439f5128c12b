# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""IPv6's extension headers and the options in them: net/ipv6/exthdrs.c. Pure."""

from __future__ import annotations

import socket
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAD1, _PADN, _ALERT, _JUMBO = 0, 1, 5, 0xC2
_MOST_PADDING = 7
_MOST_OPTIONS = 8  # IP6_DEFAULT_MAX_HBH_OPTS_CNT, IP6_DEFAULT_MAX_DST_OPTS_CNT
_SKIPPED = {socket.IPPROTO_HOPOPTS, socket.IPPROTO_ROUTING, socket.IPPROTO_DSTOPTS}


class Verdict(Enum):
    """What options come to."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    """One that has to be answered where it is not known."""


def size(data: bytes, at: int) -> int | None:
    """Return the length of the header there, None if it is not there as a whole."""
    if len(data) < at + 8:
        return None
    length = (data[at + 1] + 1) * 8
    return length if len(data) >= at + length else None


def options(data: bytes, at: int, *, hop_by_hop: bool) -> tuple[Verdict, int]:
    """`ip6_parse_tlv`: return what a header's options come to, and its length."""
    length = size(data, at)
    if length is None:
        return Verdict.BAD, 0
    return _options(data[at + 2 : at + length], hop_by_hop=hop_by_hop), length


def _options(content: bytes, *, hop_by_hop: bool) -> Verdict:
    at = padding = count = 0
    while at < len(content):
        kind = content[at]
        if kind == _PAD1:
            padding, at = padding + 1, at + 1
            if padding > _MOST_PADDING:
                return Verdict.BAD
            continue
        if len(content) - at < 2 or content[at + 1] + 2 > len(content) - at:
            return Verdict.BAD
        length = content[at + 1] + 2
        if kind == _PADN:
            padding += length
            if padding > _MOST_PADDING or any(content[at + 2 : at + length]):
                return Verdict.BAD
        else:
            count, padding = count + 1, 0
            if count > _MOST_OPTIONS:
                return Verdict.BAD
            verdict = _option(kind, content[at + 1], hop_by_hop=hop_by_hop)
            if verdict is not Verdict.GOOD:
                return verdict
        at += length
    return Verdict.GOOD


def _option(kind: int, length: int, *, hop_by_hop: bool) -> Verdict:
    """`ipv6_hop_ra`, `ip6_tlvopt_unknown`: the two highest bits say what to do with an option that is not known.

    Jumbo payloads are not in it.
    """
    if hop_by_hop and kind == _ALERT:
        return Verdict.GOOD if length == 2 else Verdict.BAD
    return (Verdict.GOOD, Verdict.BAD, Verdict.UNKNOWN, Verdict.UNKNOWN)[kind >> 6]


def is_truncated(body: bytes, following: int, needed: Mapping[int, int]) -> bool:
    """`ipv6frag_thdr_truncated`: whether a first fragment lacks a part of the headers (RFC 8200, section 4.5).

    `needed` are the bytes that a transport's header has.
    """
    at = 0
    while following in _SKIPPED:
        if len(body) < at + 2:
            return False
        following, at = body[at], at + (body[at + 1] + 1) * 8
    if following in {socket.IPPROTO_NONE, socket.IPPROTO_FRAGMENT}:
        return False
    return at + needed.get(following, 1) > len(body)

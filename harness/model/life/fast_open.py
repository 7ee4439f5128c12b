# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""TCP Fast Open as a listener does it: net/ipv4/tcp_fastopen.c. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.addresses import packed
from harness.model.life.state import Keys
from harness.model.siphash import siphash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.model.layout import Family
    from harness.model.life.state import Socket, World

_FIRST, _SECOND = bytes(range(16)), bytes(range(16, 32))

KEYS: Mapping[Keys, tuple[bytes, ...]] = MappingProxyType(
    {Keys.FIRST: (_FIRST,), Keys.SECOND: (_SECOND,), Keys.ROTATED: (_SECOND, _FIRST)}
)
"""The keys of TCP_FASTOPEN_KEY: the one that makes cookies, and a backup that cookies may still be of."""


class Given(StrEnum):
    """What a SYN says of fast open."""

    NOTHING = "nothing"
    REQUEST = "a request for a cookie"
    RIGHT = "a cookie of the first key"
    WRONG = "a cookie of no key"


@dataclass(frozen=True, kw_only=True)
class FastOpened:
    """What a listener makes of a SYN."""

    data_taken: bool = False
    """Whether the connection is open at once, and the SYN-ACK acknowledges the SYN's data."""
    cookie: bytes = b""
    """The cookie in the SYN-ACK; empty for none."""


def option(family: Family, given: Given) -> bytes | None:
    """Return the content of the SYN's fast-open option; None for no option."""
    if given is Given.NOTHING:
        return None
    return {Given.REQUEST: b"", Given.WRONG: bytes(8)}.get(given, cookie(family, _FIRST))


@cache
def cookie(family: Family, key: bytes) -> bytes:
    """`__tcp_fastopen_cookie_gen_cipher`: the cookie of the peer is a hash of both addresses."""
    return struct.pack("<Q", siphash(key, packed(family.peer) + packed(family.server)))


def try_fast_open(world: World, listener: Socket, family: Family, given: Given, *, pending: int = 0) -> FastOpened:
    """`tcp_try_fastopen`: take a SYN's data, or give the peer a cookie; every SYN of a history has data.

    `pending` are connections that the listener opened so since the last step, and that wait for their ACK.
    """
    if world.cookies or not listener.fast_open:
        return FastOpened()  # tcp_conn_request: a SYN that is answered by a SYN cookie
    if listener.pending + pending >= listener.fast_open:
        world.taken["tcp_fastopen_queue_check: full"] += 1
        return FastOpened()
    if not world.needs_cookie:
        world.taken["tcp_fastopen_create_child"] += 1
        return FastOpened(data_taken=True)
    if given is Given.NOTHING:
        return FastOpened()
    own = cookie(family, KEYS[listener.keys][0])
    if given is Given.REQUEST:
        world.taken["tcp_fastopen_cookie_gen"] += 1
        return FastOpened(cookie=own)
    valid = [cookie(family, key) for key in KEYS[listener.keys]]
    shown = option(family, given)
    if shown not in valid:
        world.taken["tcp_fastopen_cookie_gen_check: no key"] += 1
        return FastOpened(cookie=own)
    is_backup = shown != own
    world.taken["tcp_fastopen_cookie_gen_check" + (": backup" if is_backup else "")] += 1
    return FastOpened(data_taken=True, cookie=own if is_backup else b"")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Listeners of one group with fast-open keys of their own, and keys that are rotated while cookies are about.

A listener makes cookies with its first key, and takes those of its first and its second
(`tcp_fastopen_cookie_gen_check`).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, promise
from harness.model.layout import Family, Protocol
from harness.model.packets import SYN_SEQUENCE
from harness.wire.options import FAST_OPEN, option_of, syn_with_option

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench


TCP_FASTOPEN_KEY = 33  # include/uapi/linux/tcp.h
SERVER = 2  # net.ipv4.tcp_fastopen: listeners take data with a cookie
OLD, NEW, OTHER = (struct.pack("=4I", *range(first, first + 4)) for first in (1, 11, 21))


@pytest.fixture
def listeners(bench: Bench, attach_reference: AttachReference, family: Family) -> tuple[int, int]:
    """Return two listeners with fast open in slots 0 and 1 of their program's map, both with the old key."""
    bench.wire.settings.set("net/ipv4/tcp_fastopen", SERVER)
    first, second = bench.group(2, Protocol.TCP, family)
    attach_reference([first, second])
    for number in (first, second):
        bench.allow_fast_open(number)
        set_keys(bench, number, OLD)
    return first, second


def set_keys(bench: Bench, number: int, *keys: bytes) -> None:
    """Give a listener its key, and its backup key."""
    bench[number].setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, b"".join(keys))


def cookie_from(bench: Bench, index: int, family: Family) -> bytes:
    """Return the cookie that the listener in a slot gives to one who asks."""
    packet = bench.packet(index, Protocol.TCP, family)
    answer = bench.send_syn(packet, syn_with_option(packet, FAST_OPEN, b""))
    return option_of(answer.options, FAST_OPEN)


def use_cookie(bench: Bench, index: int, family: Family, cookie: bytes) -> tuple[bool, bytes]:
    """Send data with a cookie to the listener in a slot; return whether it took them, and the cookie that it gave."""
    packet = bench.packet(index, Protocol.TCP, family)
    answer = bench.send_syn(packet, syn_with_option(packet, FAST_OPEN, cookie))
    taken = answer.ack == SYN_SEQUENCE + 1 + len(packet.payload)
    assert set(bench.read()) == ({index} if taken else set())
    return taken, option_of(answer.options, FAST_OPEN)


@promise("fast-open.own-key")
@each_family
def test_cookie_of_another_key_is_not_taken(bench: Bench, listeners: tuple[int, int], family: Family) -> None:
    """A listener with a key of its own takes no cookie of another member: it answers with one that it would take."""
    first, second = listeners
    cookie = cookie_from(bench, first, family)
    set_keys(bench, second, OTHER)
    taken, given = use_cookie(bench, second, family, cookie)
    assert not taken
    assert given not in (b"", cookie)
    assert use_cookie(bench, second, family, given) == (True, b"")
    assert use_cookie(bench, first, family, given)[0] is False


@promise("fast-open.backup-key")
@each_family
def test_rotated_keys_take_the_old_cookie_and_give_a_new_one(
    bench: Bench, listeners: tuple[int, int], family: Family
) -> None:
    """A member whose backup key is the old one takes the old cookie, and gives one of its new key with the answer."""
    first, second = listeners
    cookie = cookie_from(bench, first, family)
    set_keys(bench, second, NEW, OLD)
    taken, renewed = use_cookie(bench, second, family, cookie)
    assert taken
    assert renewed not in (b"", cookie)
    assert use_cookie(bench, second, family, renewed) == (True, b"")
    assert use_cookie(bench, first, family, renewed)[0] is False


@promise("fast-open.rotation")
@each_family
def test_rotation_across_all_listeners_refuses_nobody(bench: Bench, listeners: tuple[int, int], family: Family) -> None:
    """With the next key first as a backup everywhere, then first everywhere, no cookie is refused at any step."""
    first, second = listeners
    old = cookie_from(bench, first, family)
    for number in listeners:
        set_keys(bench, number, OLD, NEW)
        assert all(use_cookie(bench, each, family, old)[0] for each in listeners)
    set_keys(bench, first, NEW, OLD)
    new = cookie_from(bench, first, family)
    assert all(use_cookie(bench, each, family, cookie)[0] for each in listeners for cookie in (old, new))
    set_keys(bench, second, NEW, OLD)
    assert all(use_cookie(bench, each, family, cookie)[0] for each in listeners for cookie in (old, new))
    for number in listeners:
        set_keys(bench, number, NEW)
    for each in listeners:
        assert [use_cookie(bench, each, family, cookie)[0] for cookie in (old, new)] == [False, True]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own choice: the hash, scaled to the number of members, is a place in the group's order.

The hash is keyed per boot, hence an input: a program that passes everything notes it. The member is then predicted
exactly, for random four-tuples over groups of 1 to 300.
"""

from __future__ import annotations

import ipaddress
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.cases import each_family, place_by_hash, promise
from harness.interface.keys import OBSERVED
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape

if TYPE_CHECKING:
    from harness.cases import DeliverTo, Delivery, MakeGroup, Packet, RecordProperty


SIZES = (1, 2, 3, 7, 64, 127, 128, 129, 256, 300)
PACKETS = 100
"""For each family and size, and once some have left: 2,200 four-tuples in all."""

NETWORK = {Family.IPV4: "198.18.0.0/15", Family.IPV6: "2001:db8:ffff::/48"}
"""RFC 2544's and RFC 3849's; routed back to the peer."""


def four_tuples(deliver: Delivery, family: Family, number: int, source: random.Random) -> list[Packet]:
    """Return that many datagrams from random addresses and different random ports."""
    network = ipaddress.ip_network(NETWORK[family])
    return [
        deliver.packet(
            port.to_bytes(2, "big"),
            source_port=port,
            source_address=str(network[source.randrange(1, min(network.num_addresses, 1 << 48) - 1)]),
        )
        for port in source.sample(range(1, 65536), number)
    ]


@promise("fallback.exact", "fallback.hash-is-the-context's")
@each_family
@pytest.mark.parametrize("bind", Bind)
def test_member_is_the_scaled_hash(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    record_property: RecordProperty,
    family: Family,
    bind: Bind,
) -> None:
    """Left to the hash, a packet goes to the member in place `ctx->hash` × members ÷ 2^32, in the order of joining.

    The group's array grows at 128 and at 256 members; one that leaves gives its place to the last.
    """
    shape = Shape(protocol=Protocol.UDP, family=family, bind=bind, inner_map=InnerMap.SOCKARRAY)
    group = make_group(shape, program="always_pass", size=1, slots=1)
    deliver = delivery_to(group)
    source = random.Random(f"{family} {bind}")
    checked = 0

    def check() -> None:
        nonlocal checked
        packets = four_tuples(deliver, family, PACKETS if bind is Bind.ANY else PACKETS // 5, source)
        found = deliver.send_many(packets)
        hashes = group.program.hashes(packet.source_port for packet in packets)
        assert found == [order[place_by_hash(hash_, len(order))] for hash_ in hashes], f"{len(order)} members"
        checked += len(packets)

    order = [0]
    for size in SIZES:
        for member in range(len(order), size):
            group.join(member)
            order.append(member)
        check()
    for leaving in source.sample(order, 40):
        group.leave(leaving)
        place, last = order.index(leaving), order.pop()
        if last != leaving:
            order[place] = last
    check()
    record_property(OBSERVED, f"{checked} four-tuples over {SIZES[0]} to {SIZES[-1]} members as predicted")


@promise("fallback.without-program")
@each_family
def test_program_that_selects_nothing_changes_nothing(
    make_group: MakeGroup, delivery_to: DeliverTo, family: Family
) -> None:
    """A program that selects nothing changes nothing: without it each four-tuple reaches the same member."""
    shape = Shape(protocol=Protocol.UDP, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
    group = make_group(shape, program="always_pass", size=37)
    deliver = delivery_to(group)
    packets = four_tuples(deliver, family, 200, random.Random(str(family)))
    found = deliver.send_many(packets)
    group.detach()
    assert deliver.send_many(packets) == found


@promise("fallback.fragments")
@each_family
def test_fragments_hash_as_the_whole(make_group: MakeGroup, delivery_to: DeliverTo, family: Family) -> None:
    """The hash is that of the four-tuple, also for a datagram that comes in fragments."""
    shape = Shape(protocol=Protocol.UDP, family=family, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
    group = make_group(shape, program="always_pass", size=37)
    deliver = delivery_to(group)
    for _ in range(15):
        whole = deliver.packet(bytes(64))
        assert deliver(replace(whole, fragments=(8, 16))) == deliver(whole)

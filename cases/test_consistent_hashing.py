# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""When a member leaves, only its share of the clients should move: Maglev's table and rendezvous hashing.

The kernel's own fall-back scales the hash by the number of members, so a member that leaves moves about half of all
clients. The clients that moved are counted from what the sockets received; the model has to agree on every client of
the leaving member and on five hundred others.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import pytest

from harness.cases import in_sockarray, programs, promise, shapes
from harness.interface.keys import MEASURED
from harness.interface.measured import Moved, Shares, measured_to_json
from harness.model.abi import MOST_NODES, TABLE_SIZE
from harness.model.consistent_hashing import hash_client, maglev_table, rendezvous_nodes
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.model.spread import band

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.cases import DeliverTo, Delivery, MakeGroup, Packet, RecordProperty, ReuseportGroup

    Owners = Sequence[int | None]

Value = TypeVar("Value")

UDP4 = Shape(protocol=Protocol.UDP, family=Family.IPV4, bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)
SIZE = 64
LEAVING = 17
CLIENTS = 20_000
SOME = 2_000
FEW = 500

TABLES: Mapping[str, Callable[[Mapping[int, int]], Sequence[int]]] = {
    "maglev": maglev_table,
    "rendezvous": rendezvous_nodes,
}


def clients(deliver: Delivery, count: int = CLIENTS) -> tuple[Packet, ...]:
    """Return one packet from each of so many clients, who differ in their ports."""
    return _from_each_port(deliver.packet(source_port=20_000), count)


@lru_cache(maxsize=1)
def _from_each_port(first: Packet, count: int) -> tuple[Packet, ...]:
    return first.from_each_port(range(first.source_port, first.source_port + count))


def looked_at(owners: Owners) -> list[int]:
    """Return the numbers of the clients for which the model is asked."""
    return [number for number, owner in enumerate(owners) if owner == LEAVING or number < FEW]


def chosen(values: Sequence[Value], numbers: Sequence[int]) -> list[Value]:
    """Return the values of these clients."""
    return [values[number] for number in numbers]


def load_table(group: ReuseportGroup, weights: Mapping[int, int]) -> None:
    """Compute the table of the program that the group has, as its control plane would, and load it."""
    group.program.table = TABLES[group.program.variant.name](weights)


def moved(before: Owners, after: Owners) -> dict[str, float]:
    """Return what part of the leaving member's clients, and of all others', has another member now."""
    pairs = list(zip(before, after, strict=True))
    own = [pair for pair in pairs if pair[0] == LEAVING]
    others = [pair for pair in pairs if pair[0] != LEAVING]
    return {
        "own": sum(one != other for one, other in own) / len(own),
        "others": sum(one != other for one, other in others) / len(others),
    }


def record(record_property: RecordProperty, program: str, share: Mapping[str, float], owners: Owners) -> None:
    """Record what was measured: the shares of the members before one left, and the clients that moved then.

    Raises AssertionError for a member whose share is none that a good hash gives.
    """
    counts = Counter(owners)
    received = [counts[member] for member in range(SIZE)]
    low, high = band(CLIENTS, SIZE)
    moved = Moved(
        program=program, clients=CLIENTS, members=SIZE, own=share["own"], others=share["others"],
        busiest=max(received) * SIZE / CLIENTS,
    )  # fmt: skip
    shares = Shares(program=program, received=received, low=low, high=high)
    for measured in (shares, moved):
        record_property(MEASURED, measured_to_json(measured))
    assert low <= min(received) <= max(received) <= high, f"of {CLIENTS} clients the members have {received}"


@promise("hashing.leaving")
@pytest.mark.parametrize(("program", "bound"), [("maglev", 0.03), ("rendezvous", 0.0)])
def test_leaving_moves_little_and_returning_moves_it_back(
    make_group: MakeGroup,
    delivery_to: DeliverTo,
    record_property: RecordProperty,
    program: str,
    bound: float,
) -> None:
    """When one of 64 members leaves, its clients move, and of the others' 3 % at most (Maglev) or none (rendezvous).

    Maglev's few are its price for a table that is looked up once (Eisenbud et al., NSDI 2016, section 5.3).
    """
    group = make_group(UDP4, program=program, size=SIZE)
    deliver = delivery_to(group)
    packets = clients(deliver)
    everyone = dict.fromkeys(range(SIZE), 1)

    load_table(group, everyone)
    before = deliver.send_many(packets)
    those = looked_at(before)
    assert chosen(before, those) == deliver.predict(chosen(packets, those))

    group.leave(LEAVING)
    load_table(group, {member: 1 for member in everyone if member != LEAVING})
    after = deliver.send_many(packets)
    assert chosen(after, those) == deliver.predict(chosen(packets, those))
    share = moved(before, after)
    record(record_property, program, share, before)
    assert share["own"] == 1
    assert share["others"] <= bound
    assert None not in after

    group.join(LEAVING)
    group.set_slot(LEAVING, LEAVING)
    load_table(group, everyone)
    assert deliver.send_many(packets[:SOME]) == before[:SOME]


@promise("hashing.fall-back")
def test_fall_back_of_the_kernel_moves_half(
    make_group: MakeGroup, delivery_to: DeliverTo, record_property: RecordProperty
) -> None:
    """When one of 64 members leaves, the kernel's fall-back moves about half of all other clients.

    The last member fills the leaving one's place, which spares some of its clients and costs others.
    """
    group = make_group(UDP4, program="always_pass", size=SIZE)
    deliver = delivery_to(group)
    packets = clients(deliver)
    before = deliver.send_many(packets)
    those = looked_at(before)
    asked = chosen(packets, those)
    hashes = group.program.hashes(packet.source_port for packet in asked)
    assert chosen(before, those) == deliver.predict(asked, hashes)

    group.leave(LEAVING)
    after = deliver.send_many(packets)
    assert chosen(after, those) == deliver.predict(asked, hashes)
    share = moved(before, after)
    record(record_property, "the kernel's hash", share, before)
    assert share["own"] == 1
    assert 0.45 < share["others"] < 0.55


@promise("hashing.weights")
@pytest.mark.parametrize("program", TABLES)
def test_weights_are_kept(make_group: MakeGroup, delivery_to: DeliverTo, program: str) -> None:
    """A member of weight 3 gets about three times the clients of one of weight 1; one of weight 0 gets none."""
    group = make_group(UDP4, program=program, size=8)
    deliver = delivery_to(group)
    packets = clients(deliver, SOME)
    load_table(group, {0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 3, 6: 3, 7: 3})
    owners = deliver.send_many(packets)
    assert owners[:FEW] == deliver.predict(packets[:FEW])
    counts = Counter(owners)
    assert counts[0] == 0
    light, heavy = (sum(counts[member] for member in members) / len(members) for members in ((1, 2, 3, 4), (5, 6, 7)))
    assert 2.5 < heavy / light < 3.5


@promise("hashing.weight-grows")
@pytest.mark.parametrize("program", TABLES)
def test_weight_that_grows_draws_from_the_others_alone(
    make_group: MakeGroup, delivery_to: DeliverTo, program: str
) -> None:
    """When a member gets heavier, it alone gains clients (rendezvous), or few others do besides (Maglev)."""
    group = make_group(UDP4, program=program, size=8)
    deliver = delivery_to(group)
    packets = clients(deliver, SOME)
    even = dict.fromkeys(range(8), 1)
    load_table(group, even)
    before = deliver.send_many(packets)
    load_table(group, {**even, 3: 2})
    after = deliver.send_many(packets)
    assert after[:FEW] == deliver.predict(packets[:FEW])
    gained = Counter(new for old, new in zip(before, after, strict=True) if old != new)
    assert gained[3] > 0
    bystanders = sum(gained.values()) - gained[3]
    assert bystanders == 0 if program == "rendezvous" else bystanders < SOME * 0.1


@promise("hashing.empty-table")
@pytest.mark.parametrize("program", TABLES)
def test_table_of_nobody_drops(make_group: MakeGroup, delivery_to: DeliverTo, program: str) -> None:
    """A packet is dropped where the table is empty, or names a member that left since it was computed."""
    group = make_group(UDP4, program=program, size=4)
    deliver = delivery_to(group)
    packets = clients(deliver, 200)
    load_table(group, {})
    assert deliver.send_many(packets) == [None] * len(packets)
    load_table(group, dict.fromkeys(range(4), 1))
    owners = deliver.send_many(packets)
    group.leave(2)
    assert deliver.send_many(packets) == [None if owner == 2 else owner for owner in owners]


@promise("hashing.last-entry")
def test_last_entry_of_the_table_is_used(make_group: MakeGroup, delivery_to: DeliverTo) -> None:
    """A client whose hash points to the table's last entry reaches the member that it names."""
    group = make_group(UDP4, program="maglev", size=2)
    deliver = delivery_to(group)
    group.program.table = [*[0] * (TABLE_SIZE - 1), 1]
    last = [
        packet
        for packet in clients(deliver)
        if hash_client(packet.source, packet.source_port) % TABLE_SIZE == TABLE_SIZE - 1
    ]
    assert last, f"none of {CLIENTS} clients has this hash"
    assert deliver.send_many(last) == [1] * len(last)


@promise("hashing.most-nodes")
def test_nodes_beyond_those_that_are_scored_win_nothing(make_group: MakeGroup, delivery_to: DeliverTo) -> None:
    """Rendezvous hashing scores the table's first 128 nodes: the last of them has its share, the next one has none."""
    group = make_group(UDP4, program="rendezvous", size=3)
    deliver = delivery_to(group)
    packets = clients(deliver, SOME)
    group.program.table = [copy << 16 for copy in range(MOST_NODES - 1)] + [1, 2]
    owners = deliver.send_many(packets)
    assert owners == deliver.predict(packets)
    assert set(owners) == {0, 1}


@promise("hashing.stable")
@shapes(bind=Bind.SPECIFIC)
@in_sockarray
@programs(*TABLES)
def test_client_keeps_its_member(group: ReuseportGroup, deliver: Delivery) -> None:
    """A client reaches the same member with every packet, and clients are spread over the members."""
    load_table(group, dict.fromkeys(range(group.size), 1))
    packets = [deliver.packet(b"once") for _ in range(12)]
    reached = [deliver(packet) for packet in packets]
    deliver.reset_connections()
    assert [deliver(packet) for packet in packets] == reached
    assert len(set(reached)) > 6

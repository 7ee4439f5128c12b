# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The seven behaviours of the kernel's own test_select_reuseport, over every shape of group.

The payload names a member by its index in the inner map, and says whether a failure to select passes on to the hash.
Every delivery is held against the model in full: members, maps, the record of what the program saw, the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.model.abi import Result
from harness.model.expect import reciprocal_scale
from harness.model.layout import GROUP_SIZE, Protocol
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.model.packets import Packet

    Command = Callable[..., Packet]

NO_SLOT = GROUP_SIZE  # one past the last index
udp = pytest.mark.shapes(protocol=Protocol.UDP)
tcp = pytest.mark.shapes(protocol=Protocol.TCP)


def test_missing_inner_map_drops(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A program that finds no inner map has nothing to select from, whatever the payload says of failures."""
    group.withdraw_inner_map()
    assert deliver(command(0)) == Dropped(Result.DROP_ERR_INNER_MAP)
    assert deliver(command(0, pass_on_failure=True)) == Dropped(Result.DROP_ERR_INNER_MAP)


def test_inner_map_that_returns_is_used_again(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """The outer map is looked up for every packet: selection goes on as soon as the inner map is back."""
    group.withdraw_inner_map()
    assert deliver(command(7)) == Dropped(Result.DROP_ERR_INNER_MAP)
    group.restore()
    assert deliver(command(7)) == Delivered(7)


def test_payload_too_short_for_a_command_drops(deliver: Delivery) -> None:
    """Under eight bytes there is no command to read; an empty payload is the shortest of them."""
    for length in range(8):
        assert deliver(deliver.packet(bytes(length))) == Dropped(Result.DROP_ERR_SKB_DATA)


def test_payload_longer_than_a_command_is_delivered_whole(deliver: Delivery, command: Command) -> None:
    """What follows the command is the application's."""
    packet = command(3)
    for length in (1, 100, 1000):
        longer = deliver.packet(packet.payload + bytes(range(length % 256)) + bytes(length - length % 256))
        assert deliver(longer) == Delivered(3)


@pytest.mark.promise("select.empty-slot")
def test_index_of_an_empty_slot_drops(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A slot without a socket cannot be selected, though its former member is still in the group."""
    group.clear_slot(3)
    assert deliver(command(3)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
    assert deliver(command(4)) == Delivered(4)
    group.set_slot(3, 3)
    assert deliver(command(3)) == Delivered(3)


def test_index_beyond_the_map_drops(deliver: Delivery, command: Command) -> None:
    """An index that the inner map does not have is as good as an empty slot."""
    for index in (NO_SLOT, 1 << 31, (1 << 32) - 1):
        assert deliver(command(index)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@pytest.mark.promise("select.index")
def test_every_member_is_reached_by_its_index(deliver: Delivery, command: Command) -> None:
    """The packet goes to the member that the payload names, whoever sent it."""
    for index in range(GROUP_SIZE):
        assert deliver(command(index)) == Delivered(index)


def test_slot_names_the_member_not_its_place(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A member is found in whatever slot it was put into; the order of the group does not matter."""
    group.clear_slot(5)
    group.clear_slot(20)
    group.set_slot(5, 20)
    assert deliver(command(5)) == Delivered(20)
    assert deliver(command(20)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


def test_override_counts_for_one_packet(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """An index set aside replaces the payload's once; it is gone for the packet after."""
    group.override_index(9)
    assert deliver(command(2)) == Delivered(9)
    assert deliver(command(2)) == Delivered(2)


def test_override_without_socket_drops(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """An index set aside is checked like any other."""
    group.override_index(NO_SLOT)
    assert deliver(command(2)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
    assert deliver(command(2)) == Delivered(2)


def test_failure_passes_on_to_the_hash(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """SK_PASS without a selected socket leaves the choice to the hash of the four-tuple, over all members."""
    group.clear_slot(3)
    for _ in range(16):
        verdict = deliver(command(3, pass_on_failure=True))
        assert verdict.hash is not None
        member = reciprocal_scale(verdict.hash, GROUP_SIZE)
        assert verdict == Delivered(member, Result.PASS_ERR_SK_SELECT_REUSEPORT)


def test_passing_on_failure_is_no_detour_for_success(deliver: Delivery, command: Command) -> None:
    """A member that can be selected is selected, also where a failure would be passed on."""
    assert deliver(command(11, pass_on_failure=True)) == Delivered(11)


def test_detached_program_leaves_the_choice_to_the_hash(
    group: ReuseportGroup, deliver: Delivery, command: Command
) -> None:
    """Without a program the same four-tuple falls where its hash, which the program had reported, points."""
    packets = [command(5) for _ in range(8)]
    hashes = [deliver(packet).hash for packet in packets]
    deliver.finish()
    group.detach()
    for packet, hash_ in zip(packets, hashes, strict=True):
        assert hash_ is not None
        assert deliver(packet, hash_=hash_) == Delivered(reciprocal_scale(hash_, GROUP_SIZE), None)


def test_program_attached_again_decides_again(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """Detaching takes nothing from the program: attached anew it selects from the same maps."""
    group.detach()
    group.attach()
    assert deliver(command(5)) == Delivered(5)


@udp
@pytest.mark.parametrize(
    "cuts", [(8,), (16,), (8, 16), (64,), (8, 64, 512)], ids=lambda cuts: f"cut-{'-'.join(map(str, cuts))}"
)
def test_fragmented_command_is_read_behind_the_linear_part(
    deliver: Delivery, command: Command, cuts: tuple[int, ...]
) -> None:
    """A reassembled datagram has only its first fragment in reach of ctx->data; bpf_skb_load_bytes reads the rest."""
    for index in (0, 17, GROUP_SIZE - 1):
        payload = command(index).payload + bytes(600)
        assert deliver(deliver.packet(payload, fragments=cuts)) == Delivered(index)


@udp
def test_fragmented_command_is_dropped_like_any_other(deliver: Delivery, command: Command) -> None:
    """The verdict on a reassembled datagram drops all of it."""
    payload = command(NO_SLOT).payload + bytes(600)
    dropped = deliver(deliver.packet(payload, fragments=(8, 16)))
    assert dropped == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@tcp
def test_syn_without_data_has_no_command(deliver: Delivery) -> None:
    """The program runs on the SYN and sees what the SYN carries, which is usually nothing."""
    assert deliver(deliver.packet(b"")) == Dropped(Result.DROP_ERR_SKB_DATA)


@pytest.mark.promise("select.syn-alone")
@tcp
def test_listener_is_chosen_by_the_syn_alone(deliver: Delivery, command: Command) -> None:
    """The ACK that completes the handshake finds the request, not the program: its own command is mere data."""
    other = command(1).payload
    assert deliver(command(30, ack_payload=other)) == Delivered(30)


@tcp
def test_syn_leaves_nothing_to_accept(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A SYN that passed is answered, but no member holds a connection until the handshake is complete."""
    deliver(command(4, ack_payload=None))
    assert group.collect() == {}


@tcp
def test_fast_open_delivers_the_data_of_the_syn(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """With fast open the chosen listener has the connection, and the command as its data, from the SYN on."""
    group.allow_fast_open()
    for index in range(GROUP_SIZE):
        assert deliver(command(index, ack_payload=b"more")) == Delivered(index)


@tcp
def test_fast_open_connection_is_there_before_the_ack(
    group: ReuseportGroup, deliver: Delivery, command: Command
) -> None:
    """A member can accept a fast open connection whose handshake was never completed."""
    group.allow_fast_open()
    assert deliver(command(6, ack_payload=None)) == Delivered(6)


@tcp
def test_fast_open_does_not_save_a_drop(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A dropped SYN is reset, its data with it."""
    group.allow_fast_open()
    assert deliver(command(NO_SLOT)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@tcp
def test_syncookie_lets_the_ack_choose_another_member(
    group: ReuseportGroup, deliver: Delivery, command: Command
) -> None:
    """A SYN cookie leaves no request, so the program runs again on the ACK; any member of the group may take it.

    tcp_v4_cookie_check looks for a recent overflow in the whole group (40a1227ea845, Linux 4.19).
    """
    group.send_syncookies()
    for syn, ack in ((1, 0), (0, 1), (12, 31)):
        assert deliver(command(syn, ack_payload=command(ack).payload)) == Delivered(ack)


@tcp
def test_syncookie_with_an_override_for_the_syn(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """The index set aside is spent on the SYN; the ACK goes where its payload says."""
    group.send_syncookies()
    group.override_index(1)
    assert deliver(command(0, ack_payload=command(0).payload)) == Delivered(0)


@tcp
def test_syncookie_ack_can_be_dropped(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A SYN that passed is no promise: the ACK's own verdict resets the connection."""
    group.send_syncookies()
    dropped = deliver(command(1, ack_payload=command(NO_SLOT).payload))
    assert dropped == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@tcp
def test_syncookie_ack_without_command_is_dropped(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """A bare ACK has no payload to read a command from."""
    group.send_syncookies()
    assert deliver(command(1)) == Dropped(Result.DROP_ERR_SKB_DATA)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The seven behaviours of the kernel's own test_select_reuseport, over every shape of group.

The payload names a member by its index in the inner map, and says whether a failure to select leaves the choice to the
hash. Every delivery is compared with the model in full: members, maps, what the program recorded, the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cases import place_by_hash, promise, tcp, udp
from harness.model.abi import Result, pack_command
from harness.model.layout import GROUP_SIZE
from harness.model.outcome import Delivered, Dropped

if TYPE_CHECKING:
    from harness.cases import Delivery, MakeCommand, ReuseportGroup


NO_SLOT = GROUP_SIZE  # one past the last index


@promise("select.no-inner-map")
def test_missing_inner_map_drops(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A program that finds no inner map in the outer one selects nothing; the reference program drops then."""
    group.withdraw_inner_map()
    for pass_on_failure in (False, True):
        assert deliver(command(0, pass_on_failure=pass_on_failure)) == Dropped(Result.DROP_ERR_INNER_MAP)


@promise("select.inner-map-returns")
def test_inner_map_that_returns_is_used_again(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """The outer map is looked up for every packet: the program selects again as soon as the inner map is back."""
    group.withdraw_inner_map()
    assert deliver(command(7)) == Dropped(Result.DROP_ERR_INNER_MAP)
    group.restore()
    assert deliver(command(7)) == Delivered(7)


@promise("reference.short")
def test_payload_too_short_for_a_command_drops(deliver: Delivery) -> None:
    """The reference program drops a payload of under eight bytes, which holds no command."""
    for length in range(8):
        assert deliver(deliver.packet(bytes(length))) == Dropped(Result.DROP_ERR_SKB_DATA)


@promise("reference.long")
def test_payload_longer_than_a_command_is_delivered_whole(deliver: Delivery, command: MakeCommand) -> None:
    """The member gets the whole payload, with whatever follows the command."""
    for length in (1, 100, 1000):
        more = bytes(number % 251 for number in range(length))
        assert deliver(command(3, more=more)) == Delivered(3)


@promise("select.empty-slot")
def test_index_of_an_empty_slot_drops(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """Selecting an empty slot is ENOENT, though its former member is in the group; the program says what then."""
    group.clear_slot(3)
    assert deliver(command(3)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
    assert deliver(command(4)) == Delivered(4)
    group.set_slot(3, 3)
    assert deliver(command(3)) == Delivered(3)


@promise("select.beyond")
def test_index_beyond_the_map_drops(deliver: Delivery, command: MakeCommand) -> None:
    """Selecting an index beyond the inner map is ENOENT, as for an empty slot."""
    for index in (NO_SLOT, 1 << 31, (1 << 32) - 1):
        assert deliver(command(index)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("select.index")
def test_every_member_is_reached_by_its_index(deliver: Delivery, command: MakeCommand) -> None:
    """A packet goes to the member in the slot that the program selects."""
    for index in range(GROUP_SIZE):
        assert deliver(command(index)) == Delivered(index)


@promise("select.slot-not-place")
def test_slot_names_the_member_not_its_place(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A member is selected by the slot that it was put into, whatever its place in the group."""
    group.clear_slot(5)
    group.clear_slot(20)
    group.set_slot(5, 20)
    assert deliver(command(5)) == Delivered(20)
    assert deliver(command(20)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("reference.override")
def test_override_counts_for_one_packet(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """An index set aside for the reference program replaces the payload's once."""
    group.override_index(9)
    assert deliver(command(2)) == Delivered(9)
    assert deliver(command(2)) == Delivered(2)


@promise("reference.override-empty")
def test_override_without_socket_drops(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """An index set aside that has no socket drops the packet, and is used up all the same."""
    group.override_index(NO_SLOT)
    assert deliver(command(2)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)
    assert deliver(command(2)) == Delivered(2)


@promise("reference.override-kept")
def test_override_is_kept_where_no_index_is_looked_at(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand
) -> None:
    """An index set aside is not used up by a packet that is dropped for want of an inner map."""
    group.override_index(9)
    group.withdraw_inner_map()
    assert deliver(command(2)) == Dropped(Result.DROP_ERR_INNER_MAP)


@promise("select.pass-on-failure")
def test_failure_passes_on_to_the_hash(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """SK_PASS after a selection that failed leaves the choice to the hash of the four-tuple, over all members."""
    group.clear_slot(3)
    for _ in range(16):
        selection = deliver(command(3, pass_on_failure=True))
        member = place_by_hash(selection.hash, GROUP_SIZE)
        assert selection == Delivered(member, Result.PASS_ERR_SK_SELECT_REUSEPORT)


@promise("select.pass-on-success")
def test_success_is_the_same_where_a_failure_would_pass(deliver: Delivery, command: MakeCommand) -> None:
    """A member that can be selected is selected, also where a failure would leave the choice to the hash."""
    assert deliver(command(11, pass_on_failure=True)) == Delivered(11)


@promise("detach.hash")
def test_detached_program_leaves_the_choice_to_the_hash(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand
) -> None:
    """Without a program the member is the one on which the hash of the four-tuple falls."""
    packets = [command(5) for _ in range(8)]
    hashes = [deliver(packet).hash for packet in packets]
    deliver.reset_connections()
    group.detach()
    for packet, hash_ in zip(packets, hashes, strict=True):
        assert deliver(packet, hash_=hash_) == Delivered(place_by_hash(hash_, GROUP_SIZE), None)


@promise("attach.again")
def test_program_attached_again_decides_again(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A program that was detached and attached again selects from the same maps as before."""
    group.detach()
    group.attach()
    assert deliver(command(5)) == Delivered(5)


@promise("reference.fragments")
@udp
@pytest.mark.parametrize(
    "cuts", [(8,), (16,), (8, 16), (64,), (8, 64, 512)], ids=lambda cuts: f"cut-{'-'.join(map(str, cuts))}"
)
def test_fragmented_command_is_read_behind_the_linear_part(
    deliver: Delivery, command: MakeCommand, cuts: tuple[int, ...]
) -> None:
    """Of a reassembled datagram `data` reaches the first fragment alone; bpf_skb_load_bytes() reads the rest."""
    for index in (0, 17, GROUP_SIZE - 1):
        assert deliver(command(index, more=bytes(600), fragments=cuts)) == Delivered(index)


@promise("select.drop-fragments")
@udp
def test_fragmented_command_is_dropped_like_any_other(deliver: Delivery, command: MakeCommand) -> None:
    """SK_DROP drops a datagram in fragments as a whole."""
    packet = command(NO_SLOT, more=bytes(600), fragments=(8, 16))
    assert deliver(packet) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("select.syn-data")
@tcp
def test_syn_without_data_has_no_command(deliver: Delivery) -> None:
    """The program sees the data that the SYN carries, which is usually none."""
    assert deliver(deliver.packet(b"")) == Dropped(Result.DROP_ERR_SKB_DATA)


@promise("select.syn-alone")
@tcp
def test_listener_is_chosen_by_the_syn_alone(deliver: Delivery, command: MakeCommand) -> None:
    """The program runs on the SYN alone: the ACK that completes the handshake finds the request."""
    assert deliver(command(30, ack_payload=pack_command(1))) == Delivered(30)


@promise("select.syn-only")
@tcp
def test_syn_leaves_nothing_to_accept(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A SYN that passed is answered, but no member has a connection to accept until the handshake is complete."""
    assert deliver(command(4, ack_payload=None)) == Dropped(Result.PASS)
    assert group.collect() == {}


@promise("tcp.fast-open-data")
@tcp
def test_fast_open_delivers_the_data_of_the_syn(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """With fast open the selected listener gets the connection, with the SYN's data before the ACK's."""
    group.allow_fast_open()
    for index in range(GROUP_SIZE):
        assert deliver(command(index, ack_payload=b"more")) == Delivered(index)


@promise("tcp.fast-open-before-ack")
@tcp
def test_fast_open_connection_is_there_before_the_ack(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand
) -> None:
    """A member can accept a fast-open connection whose handshake was never completed."""
    group.allow_fast_open()
    assert deliver(command(6, ack_payload=None)) == Delivered(6)


@promise("tcp.fast-open-drop")
@tcp
def test_syn_with_fast_open_data_can_be_dropped(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A SYN that the program drops is reset, also if it carries data for fast open."""
    group.allow_fast_open()
    assert deliver(command(NO_SLOT)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("tcp.syncookie-ack-chooses")
@tcp
def test_syncookie_lets_the_ack_choose_another_member(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand
) -> None:
    """With SYN cookies the program runs again on the ACK, and any member of the group may take it.

    `tcp_v4_cookie_check` looks for a recent overflow in the whole group (40a1227ea845, Linux 4.19).
    """
    group.send_syncookies()
    for syn, ack in ((1, 0), (0, 1), (12, 31)):
        assert deliver(command(syn, ack_payload=pack_command(ack))) == Delivered(ack)


@promise("tcp.syncookie-override")
@tcp
def test_syncookie_with_an_override_for_the_syn(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """With SYN cookies an index set aside counts for the SYN; the ACK goes where its own payload says."""
    group.send_syncookies()
    group.override_index(1)
    assert deliver(command(0, ack_payload=pack_command(0))) == Delivered(0)


@promise("tcp.syncookie-ack-dropped")
@tcp
def test_syncookie_ack_can_be_dropped(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """With SYN cookies an ACK that the program drops is reset, though its SYN had passed."""
    group.send_syncookies()
    packet = command(1, ack_payload=pack_command(NO_SLOT))
    assert deliver(packet) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("tcp.syncookie-ack-without-data")
@tcp
def test_syncookie_ack_without_command_is_dropped(
    group: ReuseportGroup, deliver: Delivery, command: MakeCommand
) -> None:
    """With SYN cookies the program sees the ACK's own data, which is usually none."""
    group.send_syncookies()
    assert deliver(command(1)) == Dropped(Result.DROP_ERR_SKB_DATA)

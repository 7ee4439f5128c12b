# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Unusual packets: which of them the program sees, what it sees of them, and which arrive.

A packet is lost before the program runs, lost after it ran, or delivered as any other. Every delivery is compared with
the model in full (harness/model/fate.py).
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from harness.cases import (
    each_family,
    each_protocol,
    in_sockarray,
    ipv4,
    ipv6,
    ledger,
    on_wildcard,
    promise,
    recorded,
    tcp,
    udp,
)
from harness.kernel.refusal import refused
from harness.model.abi import Result
from harness.model.layout import Family, Protocol
from harness.model.malformed import Checksum, Malformation
from harness.model.outcome import Delivered, Dropped, ReplyKind
from harness.model.packets import SYN_SEQUENCE
from harness.wire import frames

if TYPE_CHECKING:
    from harness.cases import AttachReference, Bench, Delivery, MakeCommand, Packet, ReuseportGroup


pytestmark = in_sockarray

NO_SLOT = 32
HIGHEST_PRIORITY = 0xE000  # the three bits above a VLAN's number
NOP, END = b"\1", b"\0"
ROUTER_ALERT = struct.pack("!BBH", 148, 4, 0)
RECORD_ROUTE = struct.pack("!BBB", 7, 7, 4) + bytes(4) + END
PADN = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # an extension header of eight bytes with one option, PadN
HOP_BY_HOP, DESTINATION_OPTIONS, FRAGMENT = 0, 60, 44
ATOMIC = bytes([0, 0, 0, 0, 0, 0, 0x5E, 0x17])  # a fragment header that says: first and last


def padded(deliver: Delivery, index: int, length: int, malformation: Malformation | None = None) -> Packet:
    """Return a packet that asks for a member and is that long from its transport header on."""
    return deliver.command(index, more=bytes(length - header(deliver) - 8), malformation=malformation)


def header(deliver: Delivery) -> int:
    """Return the length of the transport header of a datagram, or of a SYN with its one option."""
    return 8 if deliver.shape.protocol is Protocol.UDP else 24


@promise("packet.checksum-wrong-short")
@pytest.mark.parametrize("length", [40, 75, 76])
def test_wrong_checksum_of_a_short_packet_is_found_before_the_program_runs(deliver: Delivery, length: int) -> None:
    """A packet of up to 76 bytes with a wrong checksum is lost before the program runs, without an answer."""
    assert deliver(padded(deliver, 3, length, Malformation(checksum=Checksum.WRONG))) == Dropped(None)


@promise("packet.checksum-wrong-long")
@pytest.mark.parametrize("length", [77, 200, 1400])
def test_wrong_checksum_of_a_long_packet_is_found_after_the_program_ran(deliver: Delivery, length: int) -> None:
    """A packet of over 76 bytes with a wrong checksum is lost after the program ran: its socket finds it out."""
    assert deliver(padded(deliver, 3, length, Malformation(checksum=Checksum.WRONG))) == Dropped(Result.PASS)


@promise("packet.checksum-wrong-unclaimed")
@each_family
@pytest.mark.parametrize("length", [76, 77])
@pytest.mark.parametrize(("checksum", "answers"), [(Checksum.RIGHT, [ReplyKind.RESET]), (Checksum.WRONG, [])])
def test_wrong_checksum_is_not_answered_where_no_listener_is(
    bench: Bench, family: Family, length: int, checksum: Checksum, answers: list[ReplyKind]
) -> None:
    """A SYN to a port without a listener is reset; with a wrong checksum it is lost, whatever its length."""
    packet = bench.packet(
        protocol=Protocol.TCP, family=family, payload=bytes(length - 24), malformation=Malformation(checksum=checksum)
    )
    assert packet.transport_length == length
    assert bench.send_frames(frames.syn(packet)) == answers


@promise("packet.checksum-absent-ipv4")
@udp
@ipv4
def test_datagram_without_checksum_is_good_over_ipv4(deliver: Delivery, command: MakeCommand) -> None:
    """A datagram over IPv4 without a checksum is delivered (RFC 768)."""
    assert deliver(command(3, malformation=Malformation(checksum=Checksum.ABSENT))) == Delivered(3)


@promise("packet.checksum-absent-ipv6")
@udp
@ipv6
def test_datagram_without_checksum_is_refused_by_the_socket_over_ipv6(deliver: Delivery, command: MakeCommand) -> None:
    """A datagram over IPv6 without a checksum is lost after the program ran: the socket refuses it (RFC 8200)."""
    assert deliver(command(3, malformation=Malformation(checksum=Checksum.ABSENT))) == Dropped(Result.PASS)


@promise("packet.udp-length-short")
@udp
@pytest.mark.parametrize("stated", [1, 4, 7])
def test_udp_length_below_its_header_is_lost(deliver: Delivery, command: MakeCommand, stated: int) -> None:
    """A datagram whose UDP length is below the header's 8 bytes is lost before the program runs."""
    assert deliver(command(3, malformation=Malformation(stated_length=stated))) == Dropped(None)


@promise("packet.udp-length-zero-ipv4")
@udp
@ipv4
def test_udp_length_of_zero_is_lost_over_ipv4(deliver: Delivery, command: MakeCommand) -> None:
    """A datagram over IPv4 with a UDP length of zero is lost before the program runs."""
    assert deliver(command(3, malformation=Malformation(stated_length=0))) == Dropped(None)


@promise("packet.udp-length-zero-ipv6")
@ledger("K28")
@udp
@ipv6
def test_udp_length_of_zero_is_a_jumbogram_over_ipv6(deliver: Delivery, command: MakeCommand) -> None:
    """A datagram over IPv6 with a UDP length of zero is as long as the IPv6 header says (RFC 2675)."""
    selection = deliver(command(3, malformation=Malformation(stated_length=0)))
    assert (selection, recorded(selection).length) == (Delivered(3), 8 + 8)


@promise("packet.udp-length-long")
@udp
@pytest.mark.parametrize("more", [1, 100, 60000])
def test_udp_length_beyond_the_packet_is_lost(deliver: Delivery, command: MakeCommand, more: int) -> None:
    """A datagram whose UDP length is more than there is is lost before the program runs."""
    assert deliver(command(3, malformation=Malformation(stated_length=16 + more))) == Dropped(None)


@promise("packet.udp-length-trims")
@udp
@pytest.mark.parametrize("stated", [8, 9, 12, 15])
def test_udp_length_cuts_the_command_off(deliver: Delivery, command: MakeCommand, stated: int) -> None:
    """A datagram is trimmed to its UDP length before the program runs: `len` is that, what lies behind is gone."""
    selection = deliver(command(3, malformation=Malformation(stated_length=stated)))
    assert (selection, recorded(selection).length) == (Dropped(Result.DROP_ERR_SKB_DATA), stated)


@promise("packet.udp-length-trims-payload")
@udp
@pytest.mark.parametrize("stated", [16, 17, 40])
def test_udp_length_cuts_the_payload(deliver: Delivery, command: MakeCommand, stated: int) -> None:
    """What lies behind a datagram's UDP length reaches neither the program nor the member."""
    selection = deliver(command(3, more=bytes(range(100)), malformation=Malformation(stated_length=stated)))
    assert (selection, recorded(selection).length) == (Delivered(3), stated)


@promise("packet.trailer")
@pytest.mark.parametrize("length", [1, 18, 46])
def test_bytes_behind_the_ip_packet_do_not_count(deliver: Delivery, command: MakeCommand, length: int) -> None:
    """Ethernet's padding is cut off before the program runs: `len` does not count it."""
    selection = deliver(command(3, malformation=Malformation(trailer=b"\xee" * length)))
    assert (selection, recorded(selection).length) == (Delivered(3), header(deliver) + 8)


@promise("packet.ipv4-options")
@ipv4
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(NOP * 4, id="nop"),
        pytest.param(END * 4, id="end"),
        pytest.param(NOP * 40, id="all-the-room"),
        pytest.param(ROUTER_ALERT, id="router-alert"),
        pytest.param(RECORD_ROUTE, id="record-route"),
    ],
)
def test_context_starts_after_ipv4_options(deliver: Delivery, command: MakeCommand, options: bytes) -> None:
    """The context starts at the transport header, whatever options the IPv4 header has."""
    malformation = Malformation(ipv4_options=options)
    selection = deliver(command(3, malformation=malformation))
    assert (selection, recorded(selection).length) == (Delivered(3), header(deliver) + 8)
    assert deliver(command(NO_SLOT, malformation=malformation)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("packet.ipv6-extensions", "packet.ip-protocol-of-the-socket")
@ipv6
@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param(((HOP_BY_HOP, PADN),), id="hop-by-hop"),
        pytest.param(((DESTINATION_OPTIONS, PADN),), id="destination-options"),
        pytest.param(((HOP_BY_HOP, PADN), (DESTINATION_OPTIONS, PADN)), id="both"),
        pytest.param(((FRAGMENT, ATOMIC),), id="atomic-fragment"),
        pytest.param(((DESTINATION_OPTIONS, PADN), (FRAGMENT, ATOMIC)), id="options-and-atomic-fragment"),
    ],
)
def test_context_starts_after_ipv6_extension_headers(
    deliver: Delivery, command: MakeCommand, extensions: tuple[tuple[int, bytes], ...]
) -> None:
    """Whatever extension headers come first, `ip_protocol` is the transport's and `len` counts from its header."""
    malformation = Malformation(ipv6_extensions=extensions)
    selection = deliver(command(3, malformation=malformation))
    seen = recorded(selection)
    ip_protocol = 17 if deliver.shape.protocol is Protocol.UDP else 6
    assert (selection, seen.ip_protocol, seen.length) == (Delivered(3), ip_protocol, header(deliver) + 8)
    assert deliver(command(NO_SLOT, malformation=malformation)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("packet.hop-limit")
@pytest.mark.parametrize("limit", [0, 1, 255])
def test_hop_limit_does_not_matter_to_the_receiver(deliver: Delivery, command: MakeCommand, limit: int) -> None:
    """A packet is delivered whatever its hop limit is, 0 included: only a router counts hops."""
    assert deliver(command(3, malformation=Malformation(hop_limit=limit))) == Delivered(3)


@promise("packet.vlan-priority")
def test_priority_tag_is_stripped(deliver: Delivery, command: MakeCommand) -> None:
    """A tag for VLAN 0 is only a priority: the packet is delivered, and `eth_protocol` is its own, not the tag's."""
    for vlan in (0, HIGHEST_PRIORITY):
        selection = deliver(command(3, malformation=Malformation(vlans=(vlan,))))
        eth_protocol = 0x0800 if deliver.shape.family is Family.IPV4 else 0x86DD
        assert (selection, recorded(selection).eth_protocol) == (Delivered(3), eth_protocol)


MOST_TAGS = 8
"""Priority tags that are stripped (include/linux/if_vlan.h, VLAN_MAX_DEPTH)."""


@promise("packet.vlan-stacked")
@each_protocol
@each_family
@pytest.mark.parametrize(
    ("tags", "found"),
    [(2, True), (MOST_TAGS, True), pytest.param(MOST_TAGS + 1, False, marks=ledger("K38"))],
)
def test_stacked_priority_tags_are_stripped_up_to_a_limit(
    bench: Bench, protocol: Protocol, family: Family, tags: int, found: bool
) -> None:
    """Tags for VLAN 0 may be stacked: eight are stripped, a frame with more is lost (`__netif_receive_skb_core`)."""
    member = bench.open(protocol, family)
    packet = bench.packet(0, protocol, family, malformation=Malformation(vlans=(0,) * tags))
    assert bench.send_and_find(packet) == (member if found else None)


@promise("packet.vlan-other")
@pytest.mark.parametrize("vlans", [(1,), (4094,), (0, 7), (7, 0)], ids=str)
def test_frame_of_a_vlan_that_is_not_here_is_lost(
    deliver: Delivery, command: MakeCommand, vlans: tuple[int, ...]
) -> None:
    """A frame for a VLAN without a device is lost before the program runs."""
    assert deliver(command(3, malformation=Malformation(vlans=vlans))) == Dropped(None)


@promise("packet.source-port-zero")
@udp
def test_source_port_zero_is_a_port(deliver: Delivery, command: MakeCommand) -> None:
    """A datagram from source port 0 is delivered as any other."""
    selection = deliver(command(3, source_port=0))
    assert (selection, recorded(selection).source_port) == (Delivered(3), 0)


@promise("packet.source-port-zero-tcp")
@each_family
def test_connection_from_port_zero_cannot_be_accepted_by_address(
    bench: Bench, attach_reference: AttachReference, family: Family
) -> None:
    """A SYN from port 0 is selected and answered, but accept(2) cannot name its peer and is ECONNABORTED."""
    number = bench.open(Protocol.TCP, family)
    program = attach_reference([number])
    packet = bench.packet(0, Protocol.TCP, family, source_port=0)
    bench.open_connections([packet])
    assert program.new_results() == {Result.PASS: 1}
    for error in (errno.ECONNABORTED, errno.EAGAIN):
        with refused(error):
            bench[number].accept()
    bench.wire.send(frames.reset(packet, sequence=SYN_SEQUENCE + 1))  # the kernel closes it in the slow way


@promise("packet.source-port-range")
def test_every_kind_of_source_port_is_seen_as_it_is(deliver: Delivery, command: MakeCommand) -> None:
    """The program sees the source port as it is: privileged, ephemeral, the group's own, and the last one."""
    for port in (1, 53, 1023, 1024, 7000, 32768, 65535):
        selection = deliver(command(port % 32, source_port=port))
        assert (selection, recorded(selection).source_port) == (Delivered(port % 32), port)


@promise("packet.length")
@udp
@pytest.mark.parametrize("length", [16, 17, 76, 77, 255, 256, 1471, 1472])
def test_datagram_up_to_the_mtu_is_whole(deliver: Delivery, length: int) -> None:
    """`len` is the datagram's length, from the UDP header on, and the member gets all of it."""
    if deliver.shape.family is Family.IPV6:
        length = min(length, 1460)
    selection = deliver(padded(deliver, 5, length))
    assert (selection, recorded(selection).length) == (Delivered(5), length)


@promise("packet.fragments-order")
@udp
@pytest.mark.parametrize(
    "order",
    [(2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 0, 1, 2), (2, 1, 1, 0), (0, 1, 1, 2)],
    ids=lambda order: "-".join(map(str, order)),
)
@pytest.mark.parametrize("cuts", [(8, 16), (24, 512)], ids=lambda cuts: "-".join(map(str, cuts)))
def test_fragments_in_any_order_are_one_datagram(
    deliver: Delivery, cuts: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """The program runs once on a whole datagram, in whatever order its fragments came, and if one came twice."""
    malformation = Malformation(order=order)
    selection = deliver(deliver.command(9, more=bytes(range(256)) * 3, fragments=cuts, malformation=malformation))
    assert (selection, recorded(selection).length) == (Delivered(9), 8 + 8 + 3 * 256)


@promise("packet.many-fragments")
@udp
def test_datagram_of_many_fragments(deliver: Delivery) -> None:
    """The program runs once on a datagram of forty fragments, and once on the largest of all datagrams."""
    selection = deliver(deliver.command(4, more=bytes(330), fragments=tuple(range(8, 328, 8))))
    assert (selection, recorded(selection).length) == (Delivered(4), 8 + 8 + 330)
    if deliver.shape.family is Family.IPV4:
        largest = 65535 - 20
        selection = deliver(deliver.command(4, more=bytes(largest - 16), fragments=tuple(range(1480, largest, 1480))))
        assert (selection, recorded(selection).length) == (Delivered(4), largest)


@promise("packet.syn-data")
@tcp
def test_syn_data_may_be_long(deliver: Delivery, command: MakeCommand) -> None:
    """A SYN may carry as much data as any segment; the program sees all of it."""
    for length in (1, 500, 1400):
        selection = deliver(command(6, more=bytes(length)))
        assert (selection, recorded(selection).length) == (Delivered(6), 24 + 8 + length)


@promise("packet.any-source")
def test_packets_from_anywhere_are_told_apart(deliver: Delivery, command: MakeCommand) -> None:
    """The program sees the source address as it is, of whichever network."""
    sources = (
        ("198.51.100.7", "203.0.113.255", "10.0.0.1", "223.255.255.254")
        if deliver.shape.family is Family.IPV4
        else ("2001:db8:1::7", "fd00::1", "2002::1", "3fff::1")
    )
    for index, source in enumerate(sources):
        selection = deliver(command(index, source_address=source))
        assert (selection, recorded(selection).source) == (Delivered(index), source)


@promise("packet.twice")
@udp
@on_wildcard
def test_datagram_that_comes_twice_is_two(group: ReuseportGroup, deliver: Delivery, command: MakeCommand) -> None:
    """A datagram that comes again is another one: each copy runs the program and is delivered."""
    packet = command(3)
    assert [deliver(packet) for _ in range(3)] == [Delivered(3)] * 3

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What odd packets come to: which of them the program sees, what it sees of them, and which arrive.

The model says of each oddity whether the packet is lost before the program runs, lost after, or as good as any
(harness/model/malformed.py); every case here is held against it in full.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from harness.kernel.refusal import refused
from harness.model.abi import Result, pack_command
from harness.model.expect import SYN_SEQUENCE
from harness.model.layout import Bind, Family, InnerMap, Protocol
from harness.model.malformed import CHECKSUM_BREAK, Checksum, Malformation
from harness.model.outcome import Delivered, Dropped
from harness.model.packets import TRANSPORT_HEADER
from harness.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.group.bench import Bench
    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.packets import Packet

    Command = Callable[..., Packet]

promise = pytest.mark.promise
ledger = pytest.mark.ledger
plain = pytest.mark.shapes(inner_map=InnerMap.SOCKARRAY)
udp = pytest.mark.shapes(inner_map=InnerMap.SOCKARRAY, protocol=Protocol.UDP)
tcp = pytest.mark.shapes(inner_map=InnerMap.SOCKARRAY, protocol=Protocol.TCP)
ipv4 = pytest.mark.shapes(family=Family.IPV4)
ipv6 = pytest.mark.shapes(family=Family.IPV6)

NO_SLOT = 32
HIGHEST_PRIORITY = 0xE000  # the three bits above a VLAN's number
NOP, END = b"\1", b"\0"
ROUTER_ALERT = struct.pack("!BBH", 148, 4, 0)
RECORD_ROUTE = struct.pack("!BBB", 7, 7, 4) + bytes(4) + END
PADN = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # an extension header of eight bytes with one option, PadN
HOP_BY_HOP, DESTINATION_OPTIONS, FRAGMENT = 0, 60, 44
ATOMIC = bytes([0, 0, 0, 0, 0, 0, 0x5E, 0x17])  # a fragment header that says: first and last


def padded(command: Command, index: int, length: int, malformation: Malformation) -> Packet:
    """Return a packet that asks for a member and is that long from its transport header on."""
    packet = command(index, malformation=malformation)
    return command(
        index,
        malformation=malformation,
        payload=packet.payload + bytes(length - packet.full_length),
        source_port=packet.source_port,
    )


@promise("packet.checksum-wrong-short")
@plain
@pytest.mark.parametrize("length", [40, CHECKSUM_BREAK - 1, CHECKSUM_BREAK])
def test_wrong_checksum_of_a_short_packet_is_found_first(deliver: Delivery, length: int) -> None:
    """Up to 76 bytes the checksum is looked at before the lookup: no program runs, and nothing is answered."""
    wrong = Malformation(checksum=Checksum.WRONG)
    assert deliver(padded(deliver.command, 3, length, wrong)) == Dropped(None)


@promise("packet.checksum-wrong-long")
@plain
@pytest.mark.parametrize("length", [CHECKSUM_BREAK + 1, 200, 1400])
def test_wrong_checksum_of_a_long_packet_is_found_last(deliver: Delivery, length: int) -> None:
    """Beyond 76 bytes the checksum is left to the socket: the program runs, selects, counts, and nothing arrives."""
    wrong = Malformation(checksum=Checksum.WRONG)
    assert deliver(padded(deliver.command, 3, length, wrong)) == Dropped(Result.PASS)


@promise("packet.checksum-absent-ipv4")
@udp
@ipv4
def test_datagram_without_checksum_is_good_over_ipv4(deliver: Delivery, command: Command) -> None:
    """RFC 768 lets the sender leave the checksum out."""
    assert deliver(command(3, malformation=Malformation(checksum=Checksum.ABSENT))) == Delivered(3)


@promise("packet.checksum-absent-ipv6")
@udp
@ipv6
def test_datagram_without_checksum_is_refused_by_the_socket_over_ipv6(deliver: Delivery, command: Command) -> None:
    """RFC 8200 wants one; whether to do without is the chosen socket's affair, so the program has run."""
    assert deliver(command(3, malformation=Malformation(checksum=Checksum.ABSENT))) == Dropped(Result.PASS)


@promise("packet.udp-length-short")
@udp
@pytest.mark.parametrize("stated", [1, 4, 7])
def test_udp_length_below_its_header_is_lost(deliver: Delivery, command: Command, stated: int) -> None:
    """A UDP header that states less than itself is no datagram."""
    assert deliver(command(3, malformation=Malformation(stated_length=stated))) == Dropped(None)


@promise("packet.udp-length-zero-ipv4")
@udp
@ipv4
def test_udp_length_of_zero_is_lost_over_ipv4(deliver: Delivery, command: Command) -> None:
    """IPv4 knows no jumbograms."""
    assert deliver(command(3, malformation=Malformation(stated_length=0))) == Dropped(None)


@promise("packet.udp-length-zero-ipv6")
@ledger("K28")
@udp
@ipv6
def test_udp_length_of_zero_is_a_jumbogram_over_ipv6(deliver: Delivery, command: Command) -> None:
    """A length of zero leaves it to IPv6's to say how long the datagram is."""
    assert deliver(command(3, malformation=Malformation(stated_length=0))) == Delivered(3)


@promise("packet.udp-length-long")
@udp
@pytest.mark.parametrize("more", [1, 100, 60000])
def test_udp_length_beyond_the_packet_is_lost(deliver: Delivery, command: Command, more: int) -> None:
    """A UDP header that states more than there is belongs to no whole datagram."""
    assert deliver(command(3, malformation=Malformation(stated_length=16 + more))) == Dropped(None)


@promise("packet.udp-length-trims")
@udp
@pytest.mark.parametrize("stated", [8, 9, 12, 15])
def test_udp_length_cuts_the_command_off(deliver: Delivery, command: Command, stated: int) -> None:
    """The datagram is trimmed to what its header states before the lookup: `len` is that, the command is gone."""
    assert deliver(command(3, malformation=Malformation(stated_length=stated))) == Dropped(Result.DROP_ERR_SKB_DATA)


@promise("packet.udp-length-trims-payload")
@udp
@pytest.mark.parametrize("stated", [16, 17, 40])
def test_udp_length_cuts_the_payload(deliver: Delivery, command: Command, stated: int) -> None:
    """What lies behind the stated length reaches neither the program nor the member."""
    packet = command(3)
    longer = deliver.packet(packet.payload + bytes(range(100)), malformation=Malformation(stated_length=stated))
    assert deliver(longer) == Delivered(3)


@promise("packet.trailer")
@plain
@pytest.mark.parametrize("length", [1, 18, 46])
def test_bytes_behind_the_ip_packet_do_not_count(deliver: Delivery, command: Command, length: int) -> None:
    """Ethernet's padding is cut off before the lookup: `len` does not count it."""
    assert deliver(command(3, malformation=Malformation(trailer=b"\xee" * length))) == Delivered(3)


@promise("packet.ipv4-options")
@plain
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
def test_ipv4_options_are_behind_the_context(deliver: Delivery, command: Command, options: bytes) -> None:
    """The context starts at the transport header however long the network header is; addresses stay in reach."""
    malformation = Malformation(ipv4_options=options)
    assert deliver(command(3, malformation=malformation)) == Delivered(3)
    assert deliver(command(NO_SLOT, malformation=malformation)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("packet.ipv6-extensions", "packet.ip-protocol-of-the-socket")
@plain
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
def test_ipv6_extension_headers_are_behind_the_context(
    deliver: Delivery, command: Command, extensions: tuple[tuple[int, bytes], ...]
) -> None:
    """`ip_protocol` is the socket's, 17 or 6, and `len` counts from the transport header, whatever comes before."""
    malformation = Malformation(ipv6_extensions=extensions)
    assert deliver(command(3, malformation=malformation)) == Delivered(3)
    assert deliver(command(NO_SLOT, malformation=malformation)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)


@promise("packet.hop-limit")
@plain
@pytest.mark.parametrize("limit", [0, 1, 255])
def test_hop_limit_is_no_affair_of_the_receiver(deliver: Delivery, command: Command, limit: int) -> None:
    """Only a router counts hops: a packet that arrived is delivered, also with none left."""
    assert deliver(command(3, malformation=Malformation(hop_limit=limit))) == Delivered(3)


@promise("packet.vlan-priority")
@plain
def test_priority_tag_is_stripped(deliver: Delivery, command: Command) -> None:
    """A tag for VLAN 0 is only a priority: `eth_protocol` is the packet's, not the tag's."""
    assert deliver(command(3, malformation=Malformation(vlans=(0,)))) == Delivered(3)
    assert deliver(command(3, malformation=Malformation(vlans=(HIGHEST_PRIORITY,)))) == Delivered(3)


@promise("packet.vlan-other")
@plain
@pytest.mark.parametrize("vlans", [(1,), (4094,), (0, 7), (7, 0)], ids=str)
def test_frame_of_a_vlan_that_is_not_here_is_lost(deliver: Delivery, command: Command, vlans: tuple[int, ...]) -> None:
    """A frame for a VLAN without a device of its own is no one's."""
    assert deliver(command(3, malformation=Malformation(vlans=vlans))) == Dropped(None)


@promise("packet.source-port-zero")
@udp
def test_source_port_zero_is_a_port(deliver: Delivery, command: Command) -> None:
    """Nothing is special about source port 0 of a datagram, for the program or the member."""
    assert deliver(command(3, source_port=0)) == Delivered(3)


@promise("packet.source-port-zero-tcp")
@pytest.mark.parametrize("family", Family)
def test_connection_from_port_zero_cannot_be_accepted_by_address(
    bench: Bench, load_program: Callable[..., Program], family: Family
) -> None:
    """A SYN from port 0 is selected and answered, but accept(2) cannot name its peer and aborts (`inet_getname`)."""
    number = bench.open(Protocol.TCP, family)
    with load_program("reference", size=1) as program:
        bench.attach(number, program)
        bench.fill(program.inner, [number])
        packet = bench.packet(0, Protocol.TCP, family, source_port=0)
        bench.connect([packet])
        assert program.new_results() == {Result.PASS: 1}
        with refused(errno.ECONNABORTED):
            bench[number].accept()
        with refused(errno.EAGAIN):
            bench[number].accept()
        bench.wire.send(frames.reset(packet, sequence=SYN_SEQUENCE + 1))  # the kernel closes it in the slow way


@promise("packet.source-port-range")
@plain
def test_every_kind_of_source_port_is_seen_as_it_is(deliver: Delivery, command: Command) -> None:
    """Privileged, ephemeral, the group's own, and the last port: the record holds each."""
    for port in (1, 53, 1023, 1024, 7000, 32768, 65535):
        assert deliver(command(port % 32, source_port=port)) == Delivered(port % 32)


@promise("packet.length")
@udp
@pytest.mark.parametrize("length", [16, 17, 76, 77, 255, 256, 1471, 1472])
def test_datagram_up_to_the_mtu_is_whole(deliver: Delivery, length: int) -> None:
    """`len` is the datagram's length, from the UDP header on, and the member gets all of it."""
    if deliver.shape.family is Family.IPV6:
        length = min(length, 1460)
    assert deliver(padded(deliver.command, 5, length, Malformation())) == Delivered(5)


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
    """The program runs once, on the whole, however the fragments came; one that came twice counts once."""
    payload = pack_command(9) + bytes(range(256)) * 3
    assert deliver(deliver.packet(payload, fragments=cuts, malformation=Malformation(order=order))) == Delivered(9)


@promise("packet.many-fragments")
@udp
def test_datagram_of_many_fragments(deliver: Delivery) -> None:
    """Forty fragments of eight bytes, and the largest of datagrams, are decided as one."""
    cuts = tuple(range(8, 328, 8))
    assert deliver(deliver.packet(pack_command(4) + bytes(330), fragments=cuts)) == Delivered(4)
    whole = 65535 - 20 - 8
    if deliver.shape.family is Family.IPV4:
        large = pack_command(4) + bytes(whole - 8)
        assert deliver(deliver.packet(large, fragments=tuple(range(1480, whole + 8, 1480)))) == Delivered(4)


@promise("packet.syn-data")
@tcp
def test_syn_data_may_be_long(deliver: Delivery, command: Command) -> None:
    """A SYN carries as much as a segment does; the program reads it where it lies."""
    packet = command(6)
    for length in (1, 500, 1400):
        assert deliver(deliver.packet(packet.payload + bytes(length))) == Delivered(6)
    assert TRANSPORT_HEADER[Protocol.TCP] == 24


@promise("packet.any-source")
@plain
def test_packets_from_anywhere_are_told_apart(deliver: Delivery, command: Command) -> None:
    """The record holds the source address, of whichever network."""
    sources = (
        ("198.51.100.7", "203.0.113.255", "10.0.0.1", "223.255.255.254")
        if deliver.shape.family is Family.IPV4
        else ("2001:db8:1::7", "fd00::1", "2002::1", "3fff::1")
    )
    for index, source in enumerate(sources):
        assert deliver(command(index, source_address=source)) == Delivered(index)


@promise("packet.twice")
@udp
@pytest.mark.shapes(bind=Bind.ANY)
def test_datagram_that_comes_twice_is_two(group: ReuseportGroup, deliver: Delivery, command: Command) -> None:
    """UDP knows no repetition: each copy runs the program and is delivered."""
    packet = command(3)
    for _ in range(3):
        assert deliver(packet) == Delivered(3)

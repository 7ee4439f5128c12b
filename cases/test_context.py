# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program sees: every field of `sk_reuseport_md` at every width, and what its helpers read of the packet."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from harness.model.layout import Bind, Family, InnerMap, Protocol
from harness.model.outcome import Delivered
from harness.wire import frames

if TYPE_CHECKING:
    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.packets import Packet

one_map = pytest.mark.shapes(inner_map=InnerMap.SOCKARRAY)
udp = pytest.mark.shapes(protocol=Protocol.UDP)
loading = pytest.mark.programs("load_bytes")

_ONLY = struct.pack("=I", 0)
NETWORK, LINK = 1, 0  # BPF_HDR_START_NET, BPF_HDR_START_MAC
ABSOLUTE = 0xFFFFFFFF
MARK = 0xEE
ETHERNET = 14


def first_frame(packet: Packet) -> bytes:
    """Return the frame that the program sees: the datagram's, or the SYN's."""
    return (frames.datagram(packet) if packet.protocol is Protocol.UDP else frames.syn(packet))[0]


def transport_of(packet: Packet) -> bytes:
    """Return the frame's bytes from the transport header on."""
    return first_frame(packet)[ETHERNET + (20 if packet.family is Family.IPV4 else 40) :]


@pytest.mark.promise("context.fields")
@one_map
@pytest.mark.programs("context")
def test_every_field_at_every_width(group: ReuseportGroup, deliver: Delivery) -> None:
    """Narrow reads of a field give its low bytes; the four that are 32 bits wide all have them (5.10 to 7.2)."""
    for length in (0, 1, 300, 1000):
        packet = deliver.packet(bytes(length))
        verdict = deliver(packet)
        assert verdict.hash is not None
        in_network_order = socket.htons(packet.family.eth_protocol)
        any_address = int(group.shape.bind is Bind.ANY)
        assert noted(group.program) == {
            "len": packet.transport_length,
            "len, 16 bits": packet.transport_length & 0xFFFF,
            "len, 8 bits": packet.transport_length & 0xFF,
            "ip_protocol": packet.protocol.number,
            "ip_protocol, 16 bits": packet.protocol.number,
            "ip_protocol, 8 bits": packet.protocol.number,
            "bind_inany": any_address,
            "bind_inany, 16 bits": any_address,
            "bind_inany, 8 bits": any_address,
            "eth_protocol": in_network_order,
            "eth_protocol, 16 bits": in_network_order,
            "hash": verdict.hash,
            "data_end - data": packet.transport_length,
        }


NOTED = (
    "len", "len, 16 bits", "len, 8 bits",
    "ip_protocol", "ip_protocol, 16 bits", "ip_protocol, 8 bits",
    "bind_inany", "bind_inany, 16 bits", "bind_inany, 8 bits",
    "eth_protocol", "eth_protocol, 16 bits", "hash", "data_end - data",
)  # fmt: skip
"""What bpf/context.bpf.c writes down, by its place in context_map."""


def noted(program: Program) -> dict[str, int]:
    """Return what the program read of the last packet's context."""
    values = {name: program.maps["context_map"].lookup(struct.pack("=I", place)) for place, name in enumerate(NOTED)}
    return {name: struct.unpack("=Q", value)[0] for name, value in values.items() if value is not None}


@pytest.mark.promise("context.linear")
@udp
@one_map
@pytest.mark.programs("context")
@pytest.mark.parametrize("cut", [8, 16, 64])
def test_linear_part_ends_with_the_first_fragment(group: ReuseportGroup, deliver: Delivery, cut: int) -> None:
    """`len` counts the whole reassembled datagram, `data_end` only what lies in one piece: the first fragment.

    A second fragment that fits behind the first into its buffer would be copied there (`skb_try_coalesce`): it is long.
    """
    deliver(deliver.packet(bytes(1300), fragments=(cut,)))
    seen = noted(group.program)
    assert (seen["len"], seen["data_end - data"]) == (1308, cut)


def ask(
    group: ReuseportGroup, deliver: Delivery, packet: Packet, offset: int, length: int, header: int = ABSOLUTE
) -> tuple[int, bytes]:
    """Let the program read `length` bytes of the packet; return the helper's answer and the buffer afterwards.

    The buffer was full of `MARK` before. The packet's own delivery is checked in full too.
    """
    program = group.program
    program.maps["question_map"].update(_ONLY, struct.pack("=III", offset, length, header))
    program.maps["answer_map"].update(_ONLY, struct.pack("=iI", -1, 0) + bytes([MARK]) * 64)
    assert isinstance(deliver(packet), Delivered)
    answer = program.maps["answer_map"].lookup(_ONLY)
    assert answer is not None
    error, _ = struct.unpack_from("=iI", answer)
    assert answer[8 + length :] == bytes([MARK]) * (64 - length), "bytes behind the buffer's end were written"
    return error, answer[8 : 8 + length]


@one_map
@loading
def test_offset_zero_is_the_transport_header(group: ReuseportGroup, deliver: Delivery) -> None:
    """bpf_skb_load_bytes counts from the transport header: UDP's eight bytes, TCP's twenty-four, then the payload."""
    packet = deliver.packet(b"the payload")
    transport = transport_of(packet)
    assert ask(group, deliver, packet, 0, 8) == (0, transport[:8])
    deliver.finish()
    start = len(transport) - len(packet.payload)
    assert ask(group, deliver, packet, start, 11) == (0, b"the payload")


@pytest.mark.promise("context.load-bytes")
@one_map
@loading
def test_last_byte_can_be_read_and_nothing_beyond(group: ReuseportGroup, deliver: Delivery) -> None:
    """A read that ends behind the packet's last byte answers EFAULT and leaves zeros, wherever it starts."""
    packet = deliver.packet(b"0123456789")
    end = packet.transport_length
    for offset, length in ((end - 1, 1), (end - 10, 10), (0, end)):
        assert ask(group, deliver, deliver.packet(packet.payload), offset, length)[0] == 0
    for offset, length in ((end - 1, 2), (end, 1), (0, end + 1), (0xFFFF, 1), (0x10000, 1), (0x7FFFFFFF, 4)):
        answer = ask(group, deliver, deliver.packet(packet.payload), offset, length)
        assert answer == (-errno.EFAULT, bytes(length)), f"{length} bytes at {offset}"


@pytest.mark.promise("context.load-relative")
@one_map
@loading
def test_network_header_is_reached_relatively(group: ReuseportGroup, deliver: Delivery) -> None:
    """BPF_HDR_START_NET counts from the IP header, before the first byte of the context, to the packet's end."""
    packet = deliver.packet(b"0123456789")
    whole = first_frame(packet)[ETHERNET:]
    assert ask(group, deliver, packet, 0, 20, NETWORK) == (0, whole[:20])
    last = len(whole) - 1
    assert ask(group, deliver, deliver.packet(b"0123456789"), last, 1, NETWORK) == (0, b"9")
    assert ask(group, deliver, deliver.packet(b"0123456789"), last, 2, NETWORK) == (-errno.EFAULT, bytes(2))


@one_map
@loading
def test_link_header_is_reached_relatively(group: ReuseportGroup, deliver: Delivery) -> None:
    """BPF_HDR_START_MAC counts from the Ethernet header, which is still there in front of the packet."""
    packet = deliver.packet(b"0123456789")
    assert ask(group, deliver, packet, 0, ETHERNET, LINK) == (0, first_frame(packet)[:ETHERNET])
    assert ask(group, deliver, deliver.packet(), 0xFFFF, 1, LINK) == (-errno.EFAULT, bytes(1))


@one_map
@loading
def test_header_that_does_not_exist(group: ReuseportGroup, deliver: Delivery) -> None:
    """A start header that is neither of the two answers EFAULT and leaves zeros."""
    for header in (2, 0x7FFFFFFF):
        assert ask(group, deliver, deliver.packet(), 0, 4, header) == (-errno.EFAULT, bytes(4))


@udp
@one_map
@loading
def test_bytes_behind_the_linear_part_are_read(group: ReuseportGroup, deliver: Delivery) -> None:
    """A read may lie behind the first fragment or across its end."""
    payload = bytes(number % 251 for number in range(1400))
    for offset in (8, 0, 12, 640, 1400 - 32):
        answer = ask(group, deliver, deliver.packet(payload, fragments=(16, 648)), 8 + offset, 32)
        assert answer == (0, payload[offset : offset + 32])

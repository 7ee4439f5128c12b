# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program sees: every field of `sk_reuseport_md` at every width, and what its helpers read of the packet."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from harness.cases import in_sockarray, programs, promise, udp
from harness.loader.compiler import SOURCES
from harness.model.abi import ABSOLUTE, Result
from harness.model.layout import Bind, Family, Protocol
from harness.wire import frames

if TYPE_CHECKING:
    from harness.cases import Bench, Delivery, LoadProgram, Packet, Program, ReuseportGroup

pytestmark = in_sockarray
loading = programs("load_bytes")

NETWORK, LINK = 1, 0  # BPF_HDR_START_NET, BPF_HDR_START_MAC
MARK = b"\xee"
ETHERNET = 14


def first_frame(packet: Packet) -> bytes:
    """Return the frame that the program sees: the datagram's, or the SYN's."""
    return frames.opening(packet)[0]


def transport_of(packet: Packet) -> bytes:
    """Return the frame's bytes from the transport header on."""
    return first_frame(packet)[ETHERNET + (20 if packet.family is Family.IPV4 else 40) :]


NOTED = (
    "len", "len, 16 bits", "len, 8 bits",
    "ip_protocol", "ip_protocol, 16 bits", "ip_protocol, 8 bits",
    "bind_inany", "bind_inany, 16 bits", "bind_inany, 8 bits",
    "eth_protocol", "eth_protocol, 16 bits", "hash", "data_end - data",
)  # fmt: skip
"""What bpf/context.bpf.c writes down, by its place in context_map."""


def noted(program: Program) -> dict[str, int]:
    """Return what the program read of the last packet's context."""
    values = {name: program.maps["context_map"].at(place) for place, name in enumerate(NOTED)}
    return {name: struct.unpack("=Q", value)[0] for name, value in values.items() if value is not None}


@promise("context.fields")
@programs("context")
def test_every_field_at_every_width(group: ReuseportGroup, deliver: Delivery) -> None:
    """Every field of the context reads the same at every width that the verifier admits: by its low bytes."""
    for length in (0, 1, 300, 1000):
        packet = deliver.packet(bytes(length))
        selection = deliver(packet)
        assert selection.hash is not None
        eth_protocol = socket.htons(packet.family.eth_protocol)
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
            "eth_protocol": eth_protocol,
            "eth_protocol, 16 bits": eth_protocol,
            "hash": selection.hash,
            "data_end - data": packet.transport_length,
        }


@promise("context.linear")
@udp
@programs("context")
@pytest.mark.parametrize("cut", [8, 16, 64])
def test_linear_part_ends_with_the_first_fragment(group: ReuseportGroup, deliver: Delivery, cut: int) -> None:
    """`len` counts the whole of a reassembled datagram; `data_end` is the end of the linear part, the first fragment's.

    A second fragment that fits behind the first into its buffer would be copied there (`skb_try_coalesce`): it is long.
    """
    deliver(deliver.packet(bytes(1300), fragments=(cut,)))
    seen = noted(group.program)
    assert (seen["len"], seen["data_end - data"]) == (1308, cut)


@promise("context.line")
def test_line_that_decided_is_recorded(bench: Bench, load_for_test: LoadProgram) -> None:
    """The reference program records the line of its source that decided, in linum_map as the kernel's own test does."""
    member = bench.open()
    program = load_for_test("reference", size=1)
    bench.attach(member, program)
    bench.fill(program.inner, [member])
    source = (SOURCES / "select.h").read_text().splitlines()
    for index, result in ((0, Result.PASS), (1, Result.DROP_ERR_SK_SELECT_REUSEPORT)):
        assert bench.send_and_find(bench.packet(index)) == (member if result.passes else None)
        assert source[program.deciding_line() - 1].strip() == f"return DECIDE({result.name});"


def ask(
    group: ReuseportGroup, deliver: Delivery, packet: Packet, offset: int, length: int, header: int = ABSOLUTE
) -> tuple[int, bytes]:
    """Send a packet, and let the program read `length` bytes of it; return the helper's answer and the buffer.

    The buffer was full of `MARK` before. The packet's own delivery is checked in full too.
    """
    group.program.ask(offset, length, header, buffer=MARK * 64)
    assert deliver(packet).result is Result.PASS
    error, buffer = group.program.answer()
    assert buffer[length:] == MARK * (64 - length), "bytes behind the end were written"
    return error, buffer[:length]


@promise("context.load-offset")
@loading
def test_offset_zero_is_the_transport_header(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes` counts from the transport header: UDP's 8 bytes, or TCP's 24 here, then the payload."""
    packet = deliver.packet(b"the payload")
    transport = transport_of(packet)
    assert ask(group, deliver, packet, 0, 8) == (0, transport[:8])
    deliver.reset_connections()
    start = 8 if packet.protocol is Protocol.UDP else 24
    assert ask(group, deliver, packet, start, 11) == (0, b"the payload")


@promise("context.load-bytes")
@loading
def test_last_byte_can_be_read_and_nothing_beyond(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes` reads up to the packet's last byte; a read beyond it is EFAULT and leaves zeros."""
    packet = deliver.packet(b"0123456789")
    end = packet.transport_length
    for offset, length in ((end - 1, 1), (end - 10, 10), (0, end)):
        assert ask(group, deliver, deliver.packet(packet.payload), offset, length)[0] == 0
    for offset, length in ((end - 1, 2), (end, 1), (0, end + 1), (0xFFFF, 1), (0x10000, 1), (0x7FFFFFFF, 4)):
        answer = ask(group, deliver, deliver.packet(packet.payload), offset, length)
        assert answer == (-errno.EFAULT, bytes(length)), f"{length} bytes at {offset}"


@promise("context.load-relative")
@loading
def test_network_header_is_reached_relatively(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes_relative` reads from the IP header to the packet's end with BPF_HDR_START_NET."""
    packet = deliver.packet(b"0123456789")
    whole = first_frame(packet)[ETHERNET:]
    assert ask(group, deliver, packet, 0, 20, NETWORK) == (0, whole[:20])
    last = len(whole) - 1
    assert ask(group, deliver, deliver.packet(b"0123456789"), last, 1, NETWORK) == (0, b"9")
    assert ask(group, deliver, deliver.packet(b"0123456789"), last, 2, NETWORK) == (-errno.EFAULT, bytes(2))


@promise("context.load-link")
@loading
def test_link_header_is_reached_relatively(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes_relative` reads from the Ethernet header with BPF_HDR_START_MAC."""
    packet = deliver.packet(b"0123456789")
    assert ask(group, deliver, packet, 0, ETHERNET, LINK) == (0, first_frame(packet)[:ETHERNET])
    assert ask(group, deliver, deliver.packet(), 0xFFFF, 1, LINK) == (-errno.EFAULT, bytes(1))


@promise("context.load-header")
@loading
def test_header_that_does_not_exist(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes_relative` with any other start header is EFAULT and leaves zeros."""
    for header in (2, 0x7FFFFFFF):
        assert ask(group, deliver, deliver.packet(), 0, 4, header) == (-errno.EFAULT, bytes(4))


@promise("context.load-fragments")
@udp
@loading
def test_bytes_behind_the_linear_part_are_read(group: ReuseportGroup, deliver: Delivery) -> None:
    """`bpf_skb_load_bytes` reads behind the first fragment of a datagram, and across its end."""
    payload = bytes(number % 251 for number in range(1400))
    for offset in (8, 0, 12, 640, 1400 - 32):
        answer = ask(group, deliver, deliver.packet(payload, fragments=(16, 648)), 8 + offset, 32)
        assert answer == (0, payload[offset : offset + 32])

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of variants: every program that can decide for a group.

To add one: `bpf/NAME.bpf.c`, an entry here, its rule in harness/model/rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.layout import InnerMap

if TYPE_CHECKING:
    from collections.abc import Mapping


class Attachment(StrEnum):
    """The three kinds of program that a group takes, by the option that attaches them."""

    SK_REUSEPORT = "sk_reuseport"
    """SO_ATTACH_REUSEPORT_EBPF with a program that selects from a map."""
    SOCKET_FILTER = "socket filter"
    """SO_ATTACH_REUSEPORT_EBPF with a program that returns a place in the group."""
    CLASSIC = "classic BPF"
    """SO_ATTACH_REUSEPORT_CBPF: instructions that return a place in the group."""


class Reads(StrEnum):
    """The parts of a packet that the choice of a member may rest on."""

    SOURCE_ADDRESS = "source address"
    DESTINATION_ADDRESS = "destination address"
    SOURCE_PORT = "source port"
    DESTINATION_PORT = "destination port"
    INDEX = "index"
    """The first four bytes of the payload, in this machine's order: a member's index, or what a hash is made of."""
    SECOND_WORD = "second word"
    """The four bytes after those: what to do on failure, or another index."""
    FIRST_BYTE = "first byte"
    """The first byte of the payload."""
    CONNECTION_ID = "connection ID"
    """QUIC's, behind a short or a long header."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One program under test."""

    name: str
    decides: str
    """In one line: which socket a packet gets."""
    reads: tuple[Reads, ...] = ()
    """What that rests on in the packet; the four-tuple, where the program leaves the choice to its hash."""
    attachment: Attachment = Attachment.SK_REUSEPORT
    source: str = ""
    """The file under bpf/ without `.bpf.c`; empty: the variant's name."""
    defines: tuple[str, ...] = ()
    """Values for the compiler's -D, for several variants of one source."""
    maps: tuple[str, ...] = ("outer_map",)
    """Its maps, without those of bpf/select.h that record what happened."""
    requires: tuple[str, ...] = ()
    """Features (harness/kernel/features.py) without which a kernel refuses to load it."""
    inner_map: InnerMap | None = None
    """The one type that its map of sockets can have; None: any type."""
    key_size: int = 4
    """Bytes of a key of its map of sockets."""
    outer_by_port: bool = False
    """Whether a group's map is in the outer map at the group's port, instead of at 0."""
    classic: tuple[tuple[int, int, int, int], ...] = ()
    """The instructions (code, jt, jf, k) of a classic BPF program; it has no file under bpf/."""

    @property
    def file(self) -> str | None:
        """Return the name of its source file under bpf/, None for classic BPF."""
        return None if self.attachment is Attachment.CLASSIC else f"{self.source or self.name}.bpf.c"


# Instructions of classic BPF (linux/bpf_common.h): load a byte, a half word or a word, modulo, return A.
_LDB, _LDH, _LDW, _MOD, _RET_A = 0x30, 0x28, 0x20, 0x94, 0x16
_NETWORK_HEADER, _CPU = 0xFFF00000, 0xFFFFF000 + 36  # SKF_NET_OFF, SKF_AD_OFF + SKF_AD_CPU (linux/filter.h)

_DIRECT = ("inner_map",)
_COMMAND = (Reads.INDEX, Reads.SECOND_WORD)
_CLIENT = (Reads.SOURCE_ADDRESS, Reads.SOURCE_PORT)
_FOUR_TUPLE = (Reads.SOURCE_ADDRESS, Reads.DESTINATION_ADDRESS, Reads.SOURCE_PORT, Reads.DESTINATION_PORT)

_TABLE = (
    Variant(
        name="reference", reads=_COMMAND, decides="the index in the payload, in the one inner map of an array of maps"
    ),
    Variant(
        name="reference_direct",
        source="reference",
        defines=("DIRECT",),
        maps=_DIRECT,
        reads=_COMMAND,
        decides="the index in the payload, in a map that the program names itself",
    ),
    Variant(
        name="by_port_group",
        outer_by_port=True,
        reads=(Reads.DESTINATION_PORT, Reads.INDEX),
        decides="the destination port finds the inner map in a hash of maps, the payload the index in it",
    ),
    Variant(
        name="udp4_by_content",
        maps=("outer_map", "size_map"),
        reads=(Reads.INDEX,),
        decides="UDP over IPv4: a hash of the payload's first four bytes; anything else: the hash",
    ),
    Variant(
        name="by_source_port",
        maps=("outer_map", "size_map"),
        reads=(Reads.SOURCE_PORT,),
        decides="the source port modulo the size of the group",
    ),
    Variant(
        name="by_source_address",
        maps=("outer_map", "size_map"),
        reads=(Reads.SOURCE_ADDRESS,),
        decides="a hash of the source address: one client, one socket",
    ),
    Variant(
        name="by_hash",
        maps=("outer_map", "size_map"),
        reads=_FOUR_TUPLE,
        decides="the kernel's hash of the four-tuple, modulo instead of scaled",
    ),
    Variant(name="by_cpu", maps=("outer_map", "size_map"), decides="the CPU that received the packet"),
    Variant(name="round_robin", maps=("outer_map", "size_map", "state_map"), decides="each member in turn"),
    Variant(
        name="random",
        maps=("outer_map", "size_map", "state_map"),
        decides="a random number (xorshift64) from a seed that the case sets",
    ),
    Variant(
        name="by_quic_index",
        reads=(Reads.CONNECTION_ID,),
        decides="QUIC: the first byte of the server's connection ID; a client's: the hash",
    ),
    Variant(
        name="by_quic_connection",
        maps=_DIRECT,
        inner_map=InnerMap.SOCKHASH,
        key_size=8,
        requires=("select_from_sockmap", "udp_in_sockmap"),
        reads=(Reads.CONNECTION_ID,),
        decides="QUIC: a hash of sockets by the server's connection ID; unknown or a client's: the hash",
    ),
    Variant(
        name="maglev",
        maps=("outer_map", "table_map"),
        reads=_CLIENT,
        decides="Maglev's table, by a hash of the client's address and port",
    ),
    Variant(
        name="rendezvous",
        maps=("outer_map", "table_map"),
        reads=_CLIENT,
        decides="the highest score for the client (HRW); a member of more weight has more nodes",
    ),
    Variant(
        name="active_backup",
        decides="the primary in slot 0 while it lives, the backup in slot 1 otherwise",
    ),
    Variant(
        name="active_active",
        reads=(Reads.SOURCE_PORT,),
        decides="slot 0 or 1 by the parity of the source port, each standing in for the other",
    ),
    Variant(name="select_twice", reads=_COMMAND, decides="two indices in the payload: the last that can be selected"),
    Variant(name="select_then_drop", reads=(Reads.INDEX,), decides="no socket: what it selected is dropped"),
    Variant(
        name="always_pass",
        source="verdict",
        defines=("VERDICT=SK_PASS",),
        maps=("hash_map", *_DIRECT),
        reads=_FOUR_TUPLE,
        decides="the hash; it records the hash of each source port",
    ),
    Variant(
        name="always_drop",
        source="verdict",
        defines=("VERDICT=SK_DROP",),
        maps=("hash_map", *_DIRECT),
        decides="no socket: it drops everything",
    ),
    Variant(
        name="verdict_two",
        source="verdict",
        defines=("VERDICT=2",),
        maps=("hash_map", *_DIRECT),
        decides="no socket: it returns 2, which is not SK_PASS",
    ),
    Variant(
        name="verdict_minus_one",
        source="verdict",
        defines=("VERDICT=-1",),
        maps=("hash_map", *_DIRECT),
        decides="no socket: it returns -1, which is not SK_PASS",
    ),
    Variant(
        name="context",
        maps=("context_map", *_DIRECT),
        reads=_FOUR_TUPLE,
        decides="the hash; it records every field of the context at every width",
    ),
    Variant(
        name="load_bytes",
        maps=("answer_map", *_DIRECT, "question_map"),
        reads=_FOUR_TUPLE,
        decides="the hash; it calls bpf_skb_load_bytes() or _relative() as the case asks, and records the answer",
    ),
    Variant(
        name="migrate",
        maps=(*_DIRECT, "migration_map", "state_map"),
        requires=("select_or_migrate", "migrating_sk", "get_socket_cookie"),
        reads=(Reads.INDEX,),
        decides="the index in the payload; a closing listener's connections go to the member that the case named",
    ),
    Variant(
        name="filter_index",
        attachment=Attachment.SOCKET_FILTER,
        maps=(),
        reads=(Reads.INDEX,),
        decides="the place in the group that the payload's first four bytes name",
    ),
    Variant(
        name="classic_payload",
        attachment=Attachment.CLASSIC,
        maps=(),
        classic=((_LDB, 0, 0, 0), (_RET_A, 0, 0, 0)),
        reads=(Reads.FIRST_BYTE,),
        decides="the place that the payload's first byte names: data starts behind the transport header",
    ),
    Variant(
        name="classic_source_port",
        attachment=Attachment.CLASSIC,
        maps=(),
        classic=((_LDH, 0, 0, _NETWORK_HEADER + 20), (_MOD, 0, 0, 16), (_RET_A, 0, 0, 0)),
        reads=(Reads.SOURCE_PORT,),
        decides="IPv4: the source port modulo 16, read relative to the network header",
    ),
    Variant(
        name="classic_cpu",
        attachment=Attachment.CLASSIC,
        maps=(),
        classic=((_LDW, 0, 0, _CPU), (_RET_A, 0, 0, 0)),
        decides="the place of the CPU that received the packet",
    ),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in _TABLE})
"""The variants by name, in the order of the table."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of variants: every program that a group can be given, each one named here and nowhere else.

To add one: `bpf/NAME.bpf.c`, an entry here, its rule in harness/rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Attachment(StrEnum):
    """Name the three kinds of program that a group takes, by the option that attaches them."""

    SK_REUSEPORT = "sk_reuseport"
    """SO_ATTACH_REUSEPORT_EBPF with a program that selects from a map."""
    SOCKET_FILTER = "socket filter"
    """SO_ATTACH_REUSEPORT_EBPF with a program that returns a place in the group."""
    CLASSIC = "classic BPF"
    """SO_ATTACH_REUSEPORT_CBPF: instructions that return a place in the group."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Describe one program under test."""

    name: str
    decides: str
    """One line: which socket a packet gets."""
    attachment: Attachment = Attachment.SK_REUSEPORT
    source: str = ""
    """The file under bpf/ without `.bpf.c`; the variant's own name unless said otherwise."""
    defines: tuple[str, ...] = ()
    """What the compiler is given with -D: one source, several variants."""
    maps: tuple[str, ...] = ("outer_map",)
    """Its maps besides those of bpf/select.h that only record what happened."""
    first_kernel: tuple[int, int] = (4, 19)
    """The first release that takes it; an older one refuses to load it."""
    migrates: bool = False
    """Whether it is loaded as BPF_SK_REUSEPORT_SELECT_OR_MIGRATE."""
    classic: tuple[tuple[int, int, int, int], ...] = ()
    """The instructions (code, jt, jf, k) of a classic BPF program, which has no file under bpf/."""

    @property
    def file(self) -> str | None:
        """Return the name of its source under bpf/, None for classic BPF."""
        return None if self.attachment is Attachment.CLASSIC else f"{self.source or self.name}.bpf.c"


_TABLE = (
    Variant(name="reference", decides="the index in the payload, in the one inner map of an array of maps"),
    Variant(name="by_source_port", decides="the source port modulo the size of the group"),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in _TABLE})
"""By name, in the order of the table."""

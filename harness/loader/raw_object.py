# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Load a program as a server's own loader does: make its maps, write their descriptors into it, hand it to the kernel.

This is for objects that libbpf 1.x refuses: with `extern` maps that the loader has to make, and with legacy maps.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from harness.loader.load import load_instructions
from harness.loader.maps import Map, create_map
from harness.loader.program_options import MapSpec
from harness.model.uapi import MAP_KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.loader.object_file import LegacyMap, ProgramInFile

_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD (include/uapi/linux/bpf.h)


def from_legacy(legacy: LegacyMap, *, name: str) -> MapSpec:
    """Return the map that a legacy definition asks for. Raises ValueError for a type that the harness does not know."""
    if legacy.type not in MAP_KIND:
        raise ValueError(
            f"the legacy map {name} has type {legacy.type}, which cannot be translated: define it in libbpf's form, "
            'SEC(".maps")'
        )
    return MapSpec(
        kind=MAP_KIND[legacy.type],
        key_size=legacy.key_size,
        value_size=legacy.value_size,
        max_entries=legacy.max_entries,
        flags=legacy.flags,
    )


class RawObject:
    """A loaded program and the maps that were made for it; `close` lets go of both. BpfError says what was refused."""

    def __init__(
        self, program: ProgramInFile, specs: Mapping[str, MapSpec], *, kind: str, license_: str, attach_type: int
    ) -> None:
        self.name = program.function
        self.kinds = {name: spec.kind for name, spec in specs.items()}
        self.maps: dict[str, Map] = {}
        self.fd = -1
        try:
            for name, spec in specs.items():
                self.maps[name] = create_map(
                    spec.kind,
                    name=name,
                    key_size=spec.key_size,
                    value_size=spec.value_size,
                    max_entries=spec.max_entries,
                    flags=spec.flags,
                )
            self.fd = self._load(program, kind=kind, license_=license_, attach_type=attach_type)
        except BaseException:
            self.close()
            raise

    def inner_spec(self, name: str) -> MapSpec | None:
        """Return None: maps of maps are for libbpf's form."""

    def close(self) -> None:
        """Close the program and its maps; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        for each in self.maps.values():
            each.close()

    def _load(self, program: ProgramInFile, *, kind: str, license_: str, attach_type: int) -> int:
        instructions = bytearray(program.instructions)
        for use in program.uses:
            registers, immediate = instructions[use.offset + 1], self.maps[use.name].fd
            instructions[use.offset + 1] = registers & 0x0F | _PSEUDO_MAP_FD << 4
            struct.pack_into("=i", instructions, use.offset + 4, immediate)
        return load_instructions(
            kind, bytes(instructions), attach_type=attach_type, name=program.function, license_=license_, log=True
        )

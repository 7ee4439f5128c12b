# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program of the user's, loaded: what it is attached as, its maps, and how sockets get into them."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.loader.maps import Map, create_map
from harness.loader.own_object import CLASSIC, load_own, read_own
from harness.loader.program import attach_classic
from harness.loader.program_options import ProgramOptions
from harness.loader.statistics import counting
from harness.model.uapi import SO_ATTACH_REUSEPORT_EBPF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.loader.program_options import MapSpec
    from harness.loader.statistics import Cost

_BY_INDEX = {"sockmap", "sockarray"}
_OF_MAPS = {"array_of_maps", "hash_of_maps"}


class OwnProgram:
    """A user's loaded program: `kind`, `fd`, its `maps` by name, and which of them hold sockets by number.

    `kind` is "sk_reuseport", "socket_filter" or "classic"; `fd` is -1 for a classic one. Raises ObjectFileError for a
    file that cannot be loaded anywhere, BpfError for a program that this kernel refuses.
    """

    def __init__(self, path: Path, options: ProgramOptions | None = None) -> None:
        options = options or ProgramOptions()
        self._file = read_own(path, options)
        self._loaded = load_own(path, options)
        self._inner: dict[tuple[str, int], Map] = {}
        self.kind, self.name, self.fd = self._file.kind, self._loaded.name, self._loaded.fd
        self.maps: dict[str, Map] = self._loaded.maps
        kinds = self._loaded.kinds
        self.indexed = [found for name, found in self.maps.items() if kinds[name] in {*_BY_INDEX, "sockhash"}]
        self._outer: dict[str, MapSpec] = {
            name: spec
            for name, kind in kinds.items()
            if kind in _OF_MAPS and (spec := self._loaded.inner_spec(name)) is not None and spec.kind in _BY_INDEX
        }

    @property
    def selects_by_map(self) -> bool:
        """Whether it selects sockets from maps; the other kinds return a place in the group."""
        return self.kind == "sk_reuseport"

    def attach(self, member: socket.socket) -> None:
        """Attach it to the member's group; OSError carries the kernel's errno."""
        if self.kind == CLASSIC:
            attach_classic(member, self._file.classic)
        else:
            member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, self.fd)

    def put(self, index: int, fileno: int) -> None:
        """Put a socket into that slot of every map of sockets; in a sockhash, at the index as a key of its size.

        In a map of maps whose inner maps have one slot, the index is the outer map's key; if they have more, it is the
        slot in the inner map at key 0. Inner maps are made as they are needed. BpfError carries the kernel's errno.
        """
        for found in self.indexed:
            _store(found, index, fileno)
        for name, spec in self._outer.items():
            key, slot = (index, 0) if spec.max_entries == 1 else (0, index)
            _store(self._inner_map(name, spec, key), slot, fileno)

    def take(self, index: int) -> None:
        """Empty that slot of the same maps. BpfError carries the kernel's errno."""
        for found in self.indexed:
            found.delete(_key(found, index))
        for name, spec in self._outer.items():
            key, slot = (index, 0) if spec.max_entries == 1 else (0, index)
            inner = self._inner_map(name, spec, key)
            inner.delete(_key(inner, slot))

    @contextmanager
    def counted(self) -> Iterator[Callable[[], Cost | None]]:
        """Have the kernel count its runs for a while; the function given returns them, None for a classic program."""
        if self.kind == CLASSIC:
            yield lambda: None
        else:
            with counting(self.fd) as since:
                yield since

    def close(self) -> None:
        """Let go of the program and its maps; groups keep what they still use."""
        for each in self._inner.values():
            each.close()
        self._inner.clear()
        self._loaded.close()

    def _inner_map(self, name: str, spec: MapSpec, key: int) -> Map:
        if (name, key) not in self._inner:
            made = create_map(
                spec.kind,
                key_size=spec.key_size,
                value_size=spec.value_size,
                max_entries=spec.max_entries,
                flags=spec.flags,
            )
            self._inner[name, key] = made
            outer = self.maps[name]
            outer.update(_key(outer, key), struct.pack("=I", made.fd))
        return self._inner[name, key]


def _store(found: Map, index: int, fileno: int) -> None:
    form = "=Q" if found.value_size == 8 else "=I"
    found.update(_key(found, index), struct.pack(form, fileno))


def _key(found: Map, index: int) -> bytes:
    """Return a map's key that is a number in this machine's byte order."""
    return index.to_bytes(found.key_size, sys.byteorder)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compiled BPF objects: open, load and close them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from harness.loader.bindings import BpfError, call, call_for_pointer, library
from harness.loader.maps import Map, arrays_can_be_mapped
from harness.model.uapi import BPF_F_MMAPABLE, MAP_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Object:
    """A compiled BPF object; as a context manager it closes itself.

    Raises BpfError, with libbpf's messages, if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._object: int | None = call_for_pointer(
            f"open {path.name}", "bpf_object__open_file", os.fsencode(path), None
        )
        self._mapped: dict[str, int] = {}
        self._maps: dict[str, Map] = {}

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_inner_map(self, outer: str, inner: Map) -> None:
        """Give an outer map the template of its inner maps; before `load`."""
        call(f"inner map of {outer}", "bpf_map__set_inner_map_fd", self._map(outer), inner.fd)

    def has_map(self, name: str) -> bool:
        """Return whether the object declares the map."""
        return bool(library().bpf_object__find_map_by_name(self._object, name.encode()))

    def use_map(self, name: str, made: Map) -> None:
        """Use a map that exists instead of a declared one, whatever its declared type; before `load`."""
        call(f"use {made.name} as {name}", "bpf_map__reuse_fd", self._map(name), made.fd)

    def set_expected_attach_type(self, attach_type: int) -> None:
        """Set the attach type of every program; before `load`."""
        for program in self._programs():
            call("attach type", "bpf_program__set_expected_attach_type", program, attach_type)

    def load(self) -> None:
        """Create the maps and load the programs; arrays are shared with this process where the kernel can.

        BpfError holds the verifier's whole log.
        """
        if arrays_can_be_mapped():
            self._share_arrays()
        call(f"load {self.path.name}", "bpf_object__load", self._object)

    def _share_arrays(self) -> None:
        libbpf = library()
        for name, current in self._each_map():
            if libbpf.bpf_map__type(current) == MAP_TYPE["array"]:
                flags = libbpf.bpf_map__map_flags(current) | BPF_F_MMAPABLE
                call(f"flags of {name}", "bpf_map__set_map_flags", current, flags)
                self._mapped[name] = libbpf.bpf_map__max_entries(current)

    def maps(self) -> dict[str, Map]:
        """Return the loaded object's maps by name; they are closed with it."""
        libbpf = library()
        if not self._maps:
            self._maps = {
                name: Map(
                    libbpf.bpf_map__fd(current),
                    name=name,
                    key_size=libbpf.bpf_map__key_size(current),
                    value_size=libbpf.bpf_map__value_size(current),
                    mapped=self._mapped.get(name, 0),
                )
                for name, current in self._each_map()
            }
        return self._maps

    def map_kinds(self) -> dict[str, str]:
        """Return each map's kind: a key of `uapi.MAP_TYPE`, or the type's number as text."""
        names = {number: name for name, number in MAP_TYPE.items()}
        numbers = {name: library().bpf_map__type(current) for name, current in self._each_map()}
        return {name: names.get(number, str(number)) for name, number in numbers.items()}

    def program_fds(self) -> dict[str, int]:
        """Return the loaded programs' file descriptors by name; they are closed with the object."""
        libbpf = library()
        return {
            libbpf.bpf_program__name(program).decode(): libbpf.bpf_program__fd(program) for program in self._programs()
        }

    def close(self) -> None:
        """Unload what nothing else uses and free the object; a second call does nothing."""
        for each in self._maps.values():
            each.close()
        if self._object:
            library().bpf_object__close(self._object)
            self._object = None

    def _map(self, name: str) -> int:
        found = library().bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise BpfError(errno.ENOENT, f"map {name} of {self.path.name}")
        return int(found)

    def _each_map(self) -> Iterator[tuple[str, int]]:
        current = None
        while current := library().bpf_object__next_map(self._object, current):
            yield library().bpf_map__name(current).decode(), current

    def _programs(self) -> Iterator[int]:
        current = None
        while current := library().bpf_object__next_program(self._object, current):
            yield current

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compiled BPF objects: open, load and close them."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from ctypes import c_size_t
from typing import TYPE_CHECKING

from harness.loader.bindings import BpfError, call, call_for_pointer, library
from harness.loader.maps import Map, arrays_can_be_mapped, create_map
from harness.loader.program_options import MapSpec
from harness.model.uapi import BPF_F_MMAPABLE, MAP_KIND, MAP_TYPE, PROGRAM_TYPE

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
        self._templates: list[Map] = []
        self._inner: dict[str, MapSpec] = {}

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

    def choose(self, name: str, *, kind: str) -> None:
        """Load this program alone, as one of a kind in `uapi.PROGRAM_TYPE`; before `load`."""
        libbpf = library()
        for program in self._programs():
            chosen = libbpf.bpf_program__name(program).decode() == name
            call(f"choose {name}", "bpf_program__set_autoload", program, chosen)
            if chosen and libbpf.bpf_program__type(program) != PROGRAM_TYPE[kind]:
                call(f"type of {name}", "bpf_program__set_type", program, PROGRAM_TYPE[kind])
                call(f"attach type of {name}", "bpf_program__set_expected_attach_type", program, 0)

    def set_constant(self, offset: int, value: int, *, size: int) -> None:
        """Give a variable of .rodata, `size` bytes at that offset, a value; before `load`."""
        for name, current in self._each_map():
            if name.endswith(".rodata"):
                length = c_size_t()
                start = library().bpf_map__initial_value(current, ctypes.byref(length))
                ctypes.memmove(start + offset, value.to_bytes(size, sys.byteorder, signed=value < 0), size)

    def shape_inner_map(self, outer: str, spec: MapSpec) -> None:
        """Give the maps inside a map of maps another kind, size or flags; before `load`."""
        self._templates.append(
            create_map(
                spec.kind,
                key_size=spec.key_size,
                value_size=spec.value_size,
                max_entries=spec.max_entries,
                flags=spec.flags,
            )
        )
        self.set_inner_map(outer, self._templates[-1])
        self._inner[outer] = spec

    def inner_spec(self, outer: str) -> MapSpec | None:
        """Return what the maps inside a map of maps are like, None if the object does not say it."""
        if outer in self._inner:
            return self._inner[outer]
        libbpf = library()
        inner = libbpf.bpf_map__inner_map(self._map(outer))
        if not inner:
            return None
        return MapSpec(
            kind=_kind(libbpf.bpf_map__type(inner)),
            key_size=libbpf.bpf_map__key_size(inner),
            value_size=libbpf.bpf_map__value_size(inner),
            max_entries=libbpf.bpf_map__max_entries(inner),
            flags=libbpf.bpf_map__map_flags(inner),
        )

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
        return {name: _kind(library().bpf_map__type(current)) for name, current in self._each_map()}

    def program_fds(self) -> dict[str, int]:
        """Return the loaded programs' file descriptors by name; they are closed with the object."""
        libbpf = library()
        found = {
            libbpf.bpf_program__name(program).decode(): libbpf.bpf_program__fd(program) for program in self._programs()
        }
        return {name: fd for name, fd in found.items() if fd >= 0}

    def close(self) -> None:
        """Unload what nothing else uses and free the object; a second call does nothing."""
        for each in (*self._maps.values(), *self._templates):
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


def _kind(number: int) -> str:
    return MAP_KIND.get(number, str(number))

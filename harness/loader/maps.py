# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BPF maps: create, read and change them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import struct
from ctypes import c_size_t, c_uint32, c_uint64
from functools import cache
from pathlib import Path

from harness.loader.bindings import BpfError, call, library
from harness.model.abi import native_bytes, native_number
from harness.model.uapi import BPF_ANY, BPF_F_MMAPABLE, MAP_TYPE


class Map:
    """A BPF map, reached by its file descriptor; keys and values are bytes of the map's own sizes.

    `mapped` is the number of entries of an array that was created with BPF_F_MMAPABLE, 0 for any other map. The
    entries of such an array are shared with this process: reading and writing them takes no system call.
    """

    def __init__(
        self, fd: int, *, name: str, key_size: int, value_size: int, mapped: int = 0, owned: bool = False
    ) -> None:
        self.fd, self.name, self.key_size, self.value_size = fd, name, key_size, value_size
        self._mapped, self._owned = mapped, owned
        # kernel/bpf/arraymap.c: elem_size = round_up(attr->value_size, 8)
        self._stride = (value_size + 7) & ~7
        self._memory: mmap.mmap | None = None
        self._value = ctypes.create_string_buffer(max(value_size, 8))
        self._key = ctypes.create_string_buffer(max(key_size, 8))

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value, None if the map has no such key; BpfError for any other refusal."""
        if self._mapped:
            start = self._start(key)
            return None if start is None else self._entries[start : start + self.value_size]
        result = library().bpf_map_lookup_elem(self.fd, key, self._value)
        if result == -errno.ENOENT:
            return None
        self._check(result, "lookup")
        return self._value.raw[: self.value_size]

    def numbers(self, count: int) -> tuple[int, ...]:
        """Return the first `count` values of an array of 32-bit numbers."""
        if self._mapped:
            return struct.unpack_from("=" + "I4x" * count, self._entries)
        values = [self.at(index) for index in range(count)]
        return tuple(struct.unpack("=I", value)[0] if value else 0 for value in values)

    def update(self, key: bytes, value: bytes, *, flags: int = BPF_ANY) -> None:
        """Store the value; BpfError carries the kernel's errno."""
        if self._mapped and flags == BPF_ANY and (start := self._start(key)) is not None:
            self._entries[start : start + self.value_size] = value
            return
        self._check(library().bpf_map_update_elem(self.fd, key, value, flags), "update")

    def find(self, key: bytes) -> tuple[bytes | mmap.mmap, int] | None:
        """Return the memory that holds the value and the value's offset in it, None if the map has no such key.

        Nothing is copied where the map is shared with this process: a caller may look at a part of a large value.
        """
        if self._mapped:
            start = self._start(key)
            return None if start is None else (self._entries, start)
        value = self.lookup(key)
        return None if value is None else (value, 0)

    def delete(self, key: bytes) -> None:
        """Remove the key; BpfError carries the kernel's errno."""
        self._check(library().bpf_map_delete_elem(self.fd, key), "delete")

    def at(self, index: int) -> bytes | None:
        """Return the value at a key that is a number, as `lookup` does."""
        return self.lookup(self._numbered(index))

    def number_at(self, index: int) -> int | None:
        """Return the value at a key, both as numbers; None if the map has no such key. A map of maps has maps' ids."""
        value = self.at(index)
        return None if value is None else native_number(value)

    @property
    def id(self) -> int:
        """Return the number by which the kernel knows the map."""
        lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("map_id:"))

    def put(self, index: int, fd: int, *, flags: int = BPF_ANY) -> None:
        """Put a socket or a map, by its file descriptor, at a key that is a number; BpfError carries the errno."""
        self.update(self._numbered(index), native_bytes(fd, self.value_size), flags=flags)

    def remove(self, index: int) -> None:
        """Remove a key that is a number; BpfError carries the kernel's errno."""
        self.delete(self._numbered(index))

    def next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after this one (the first for None), None after the last."""
        result = library().bpf_map_get_next_key(self.fd, key, self._key)
        if result == -errno.ENOENT:
            return None
        self._check(result, "next key")
        return self._key.raw[: self.key_size]

    def close(self) -> None:
        """Unmap the memory, and close the file descriptor if this object opened it; a second call does nothing."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._owned:
            os.close(self.fd)
            self._owned = False

    @property
    def _entries(self) -> mmap.mmap:
        """Return the memory of an array that was created with BPF_F_MMAPABLE; OSError for any other map."""
        if self._memory is None:
            self._memory = mmap.mmap(self.fd, self._mapped * self._stride)
        return self._memory

    def _numbered(self, index: int) -> bytes:
        """Return the key that a program makes of a number: in this machine's byte order."""
        return native_bytes(index, self.key_size)

    def _start(self, key: bytes) -> int | None:
        """Return the offset in bytes of an array's entry, None if the array has no such entry."""
        index = native_number(key)
        return index * self._stride if index < self._mapped else None

    def _check(self, result: int, action: str) -> None:
        if result < 0:
            raise BpfError(-result, f"{action} in map {self.name}")


def lift_memory_limit() -> None:
    """Lift RLIMIT_MEMLOCK, which BPF maps are charged to until 5.11: 64 KiB even for root."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        # A container without CAP_SYS_RESOURCE: its kernel is newer, or the maps' creation will say EPERM.
        _, highest = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (highest, highest))


@cache
def arrays_can_be_mapped() -> bool:
    """Return whether the kernel shares an array's memory with a process (fc9702273e2e, Linux 5.5)."""
    try:
        create_map("array", max_entries=1, flags=BPF_F_MMAPABLE).close()
    except BpfError:
        return False
    return True


class _MapOptions(ctypes.Structure):
    """`struct bpf_map_create_opts` of libbpf 1.0 (bpf/bpf.h)."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf", c_uint32 * 4),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


def create_map(
    kind: str,
    *,
    key_size: int = 4,
    value_size: int = 8,
    max_entries: int,
    name: str | None = None,
    flags: int = 0,
    template: Map | None = None,
) -> Map:
    """Create a map of a kind in `uapi.MAP_TYPE`; the caller closes it.

    `template` is for maps of maps: every inner map has to be like it. BpfError carries the kernel's errno.
    """
    name = name or kind
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=flags)
    if template is not None:
        options.inner_map_fd = template.fd
    fd = call(
        f"create map {name} ({kind})",
        "bpf_map_create",
        MAP_TYPE[kind],
        name.encode(),
        key_size,
        value_size,
        max_entries,
        ctypes.byref(options),
    )
    return Map(fd, name=name, key_size=key_size, value_size=value_size, owned=True)


def create_outer_map(template: Map, *, kind: str = "array_of_maps", max_entries: int = 1) -> Map:
    """Create a map of maps whose inner maps have to be like the template; the caller closes it."""
    return create_map(kind, value_size=4, max_entries=max_entries, template=template)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bind the few calls of libbpf that a harness needs, with libbpf's own log kept for the error message."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
BPF_F_MMAPABLE = 1 << 10

MAP_TYPE = {
    "hash": 1,
    "array": 2,
    "array_of_maps": 12,
    "hash_of_maps": 13,
    "sockmap": 15,
    "sockhash": 18,
    "sockarray": 20,
}
"""enum bpf_map_type (include/uapi/linux/bpf.h); sockarray is BPF_MAP_TYPE_REUSEPORT_SOCKARRAY."""

ENOTSUPP = 524
"""The kernel's own errno, which has no name in user space."""


class BpfError(OSError):
    """Report what libbpf or the kernel refused; `log` holds libbpf's words, the verifier's included."""

    def __init__(self, number: int, what: str, log: str = "") -> None:
        name = errno.errorcode.get(number, "ENOTSUPP" if number == ENOTSUPP else str(number))
        text = os.strerror(number) if number != ENOTSUPP else "Operation is not supported"
        super().__init__(number, f"{what}: {text} ({name})" + (f"\n{log}" if log else ""))
        self.log = log


class LibbpfMissingError(RuntimeError):
    """Report that no libbpf 1.x is installed."""


_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_log: list[str] = []
_line = ctypes.create_string_buffer(1 << 20)
"""Where libbpf's words are put together: a verifier's log is one of its lines."""
_libc = ctypes.CDLL(None, use_errno=True)


def _keep(level: int, template: bytes, arguments: int) -> int:
    if level >= 2:  # LIBBPF_DEBUG is the whole life story of every object, eighty lines of it
        return 0
    _libc.vsnprintf(_line, c_size_t(len(_line)), template, c_void_p(arguments))
    _log.append(_line.value.decode(errors="replace"))
    return 0


_KEEP = _PRINT(_keep)  # libbpf holds no reference of its own


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__type": (c_int, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__map_flags": (c_uint32, [c_void_p]),
    "bpf_map__set_map_flags": (c_int, [c_void_p, c_uint32]),
    "bpf_map__set_inner_map_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__set_type": (c_int, [c_void_p, c_int]),
    "bpf_map__reuse_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__set_expected_attach_type": (c_int, [c_void_p, c_int]),
    "bpf_prog_load": (c_int, [c_int, c_char_p, c_char_p, c_char_p, c_size_t, c_void_p]),
    "bpf_link_create": (c_int, [c_int, c_int, c_int, c_void_p]),
    "bpf_map_create": (c_int, [c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p]),
    "bpf_map_lookup_elem": (c_int, [c_int, c_char_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_char_p, c_char_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_char_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_char_p, c_void_p]),
}


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise LibbpfMissingError("libbpf 1.x is not installed: run ./bootstrap (Debian: libbpf1)") from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_KEEP)
    return library


@contextmanager
def _logged() -> Iterator[list[str]]:
    _log.clear()
    yield _log


def _check(result: int, what: str) -> int:
    """Return a non-negative result; raise BpfError for one of libbpf 1.x's negative errnos."""
    if result < 0:
        raise BpfError(-result, what, "".join(_log))
    return result


class Map:
    """Reach a BPF map by its file descriptor; keys and values are bytes of the map's own sizes.

    `mapped` is the number of entries of an array that was created with BPF_F_MMAPABLE, 0 for any other map: what is
    read and written of it lies in this process's memory then, and no system call is needed.
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
        """Return the value, or None if there is none; BpfError for any other refusal."""
        if self._mapped:
            start = self._start(key)
            return None if start is None else self._entries[start : start + self.value_size]
        result = _library().bpf_map_lookup_elem(self.fd, key, self._value)
        if result == -errno.ENOENT:
            return None
        self._check(result, "lookup")
        return self._value.raw[: self.value_size]

    def numbers(self, count: int) -> tuple[int, ...]:
        """Return the first so many values of an array of 32-bit numbers."""
        if self._mapped:
            return struct.unpack_from("=" + "I4x" * count, self._entries)
        values = [self.lookup(struct.pack("=I", index)) for index in range(count)]
        return tuple(struct.unpack("=I", value)[0] if value else 0 for value in values)

    def update(self, key: bytes, value: bytes, *, flags: int = BPF_ANY) -> None:
        """Store the value; BpfError carries the kernel's errno."""
        if self._mapped and flags == BPF_ANY and (start := self._start(key)) is not None:
            self._entries[start : start + self.value_size] = value
            return
        self._check(_library().bpf_map_update_elem(self.fd, key, value, flags), "update")

    @property
    def _entries(self) -> mmap.mmap:
        """Return an array's entries where they lie; OSError unless it was created with BPF_F_MMAPABLE."""
        if self._memory is None:
            self._memory = mmap.mmap(self.fd, self._mapped * self._stride)
        return self._memory

    def find(self, key: bytes) -> tuple[bytes | mmap.mmap, int] | None:
        """Return memory that holds the value and where it begins there, None if there is none.

        It is the map's own memory where that is mapped: what is large need not be copied to look at a part of it.
        """
        if self._mapped:
            start = self._start(key)
            return None if start is None else (self._entries, start)
        value = self.lookup(key)
        return None if value is None else (value, 0)

    def _start(self, key: bytes) -> int | None:
        """Return where an array's entry begins, None if it has no such entry."""
        index = int.from_bytes(key, sys.byteorder)
        return index * self._stride if index < self._mapped else None

    def delete(self, key: bytes) -> None:
        """Remove the key; BpfError carries the kernel's errno."""
        self._check(_library().bpf_map_delete_elem(self.fd, key), "delete")

    def next_key(self, key: bytes | None) -> bytes | None:
        """Return the key that follows (the first for None), or None after the last."""
        result = _library().bpf_map_get_next_key(self.fd, key, self._key)
        if result == -errno.ENOENT:
            return None
        self._check(result, "next key")
        return self._key.raw[: self.key_size]

    def close(self) -> None:
        """Let go of the map's memory, and close the file descriptor if this object opened it."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._owned:
            os.close(self.fd)
            self._owned = False

    def _check(self, result: int, action: str) -> None:
        if result < 0:
            raise BpfError(-result, f"{action} in map {self.name}")


@cache
def arrays_can_be_mapped() -> bool:
    """Tell whether the kernel shares an array's memory (fc9702273e2e, 5.5)."""
    try:
        create_map("array", max_entries=1, flags=BPF_F_MMAPABLE).close()
    except BpfError:
        return False
    return True


class _MapOptions(ctypes.Structure):
    """Mirror libbpf's `struct bpf_map_create_opts` of version 1.0."""

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
    """Create a map of a `MAP_TYPE` and own its file descriptor; a map of maps needs the template of its inner ones.

    BpfError carries the kernel's errno.
    """
    name = name or kind
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=flags)
    if template is not None:
        options.inner_map_fd = template.fd
    fd = _library().bpf_map_create(
        MAP_TYPE[kind], name.encode(), key_size, value_size, max_entries, ctypes.byref(options)
    )
    if fd < 0:
        raise BpfError(-fd, f"create map {name} ({kind})")
    return Map(fd, name=name, key_size=key_size, value_size=value_size, owned=True)


PROGRAM_TYPE = {"socket_filter": 1, "sched_cls": 3, "xdp": 6, "sk_reuseport": 21, "sk_lookup": 30}
"""enum bpf_prog_type (include/uapi/linux/bpf.h)."""


class _LoadOptions(ctypes.Structure):
    """Mirror the start of libbpf's `struct bpf_prog_load_opts`; its `sz` says how much of it there is."""

    _fields_ = (("sz", c_size_t), ("attempts", c_int), ("expected_attach_type", c_int))


def load_instructions(kind: str, instructions: bytes, *, attach_type: int = 0) -> int:
    """Load a program of a `PROGRAM_TYPE` from bare instructions; return its file descriptor, which the caller owns.

    BpfError carries the kernel's errno.
    """
    options = _LoadOptions(ctypes.sizeof(_LoadOptions), 0, attach_type)
    count = len(instructions) // 8
    fd = _library().bpf_prog_load(
        PROGRAM_TYPE[kind], b"probe", b"Dual BSD/GPL", instructions, count, ctypes.byref(options)
    )
    if fd < 0:
        raise BpfError(-fd, f"load {count} instructions as {kind}")
    return int(fd)


def link(program_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach a program to a target, a network namespace for SK_LOOKUP, for as long as the descriptor returned is open.

    BpfError carries the kernel's errno.
    """
    fd = _library().bpf_link_create(program_fd, target_fd, attach_type, None)
    if fd < 0:
        raise BpfError(-fd, "link a program")
    return int(fd)


class Object:
    """Open, load and hold one compiled BPF object; a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _logged() as log:
            ctypes.set_errno(0)
            self._object = _library().bpf_object__open_file(os.fsencode(path), None)
            if not self._object:
                raise BpfError(ctypes.get_errno(), f"open {path.name}", "".join(log))
        self._mapped: dict[str, int] = {}
        self._maps: dict[str, Map] = {}

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_inner_map(self, outer: str, inner: Map) -> None:
        """Give an outer map its template, before `load`."""
        _check(_library().bpf_map__set_inner_map_fd(self._map(outer), inner.fd), f"inner map of {outer}")

    def has_map(self, name: str) -> bool:
        """Tell whether the object declares the map."""
        return bool(_library().bpf_object__find_map_by_name(self._object, name.encode()))

    def use_map(self, name: str, made: Map) -> None:
        """Put a map that exists in the place of a declared one, whatever its declared type, before `load`."""
        _check(_library().bpf_map__reuse_fd(self._map(name), made.fd), f"use {made.name} as {name}")

    def set_expected_attach_type(self, attach_type: int) -> None:
        """Set the attach type of every program, before `load`."""
        for program in self._programs():
            _check(_library().bpf_program__set_expected_attach_type(program, attach_type), "attach type")

    def load(self) -> None:
        """Create the maps, arrays in shared memory where the kernel can, and load the programs.

        BpfError holds the verifier's whole log.
        """
        if arrays_can_be_mapped():
            self._share_arrays()
        with _logged():
            _check(_library().bpf_object__load(self._object), f"load {self.path.name}")

    def _share_arrays(self) -> None:
        library = _library()
        for name, current in self._each_map():
            if library.bpf_map__type(current) == MAP_TYPE["array"]:
                flags = library.bpf_map__map_flags(current) | BPF_F_MMAPABLE
                _check(library.bpf_map__set_map_flags(current, flags), f"flags of {name}")
                self._mapped[name] = library.bpf_map__max_entries(current)

    def maps(self) -> dict[str, Map]:
        """Return the loaded object's maps by name; they end with it."""
        library = _library()
        if not self._maps:
            self._maps = {
                name: Map(
                    library.bpf_map__fd(current),
                    name=name,
                    key_size=library.bpf_map__key_size(current),
                    value_size=library.bpf_map__value_size(current),
                    mapped=self._mapped.get(name, 0),
                )
                for name, current in self._each_map()
            }
        return self._maps

    def map_kinds(self) -> dict[str, str]:
        """Return what kind of map each one is, a key of `MAP_TYPE` or a number."""
        names = {number: name for name, number in MAP_TYPE.items()}
        numbers = {name: _library().bpf_map__type(current) for name, current in self._each_map()}
        return {name: names.get(number, str(number)) for name, number in numbers.items()}

    def program_fds(self) -> dict[str, int]:
        """Return the loaded programs' file descriptors by name."""
        library = _library()
        return {
            library.bpf_program__name(program).decode(): library.bpf_program__fd(program)
            for program in self._programs()
        }

    def close(self) -> None:
        """Unload what nothing else holds and free the object; a second call does nothing."""
        for each in self._maps.values():
            each.close()
        if self._object:
            _library().bpf_object__close(self._object)
            self._object = None

    def _map(self, name: str) -> int:
        found = _library().bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise BpfError(errno.ENOENT, f"map {name} of {self.path.name}")
        return int(found)

    def _each_map(self) -> Iterator[tuple[str, int]]:
        current = None
        while current := _library().bpf_object__next_map(self._object, current):
            yield _library().bpf_map__name(current).decode(), current

    def _programs(self) -> Iterator[int]:
        current = None
        while current := _library().bpf_object__next_program(self._object, current):
            yield current

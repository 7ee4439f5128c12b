# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A loaded variant, with its maps as properties and methods named after their purpose."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import TYPE_CHECKING

from harness.loader import grace
from harness.loader.maps import Map, create_map
from harness.loader.object import Object
from harness.model.abi import (
    ABSOLUTE,
    CONTEXT_SIZE,
    NO_OVERRIDE,
    NOBODY,
    TABLE_SIZE,
    Context,
    Migration,
    Result,
    pack_answer,
    pack_question,
    pack_table,
    unpack_answer,
    unpack_context,
    unpack_migration,
)
from harness.model.uapi import SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF
from harness.model.variants import Attachment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.model.layout import InnerMap
    from harness.model.variants import Variant

_ONLY = struct.pack("=I", 0)
_NOT_CALLED = 1
"""A value that bpf_sk_select_reuseport never returns: it returns 0 or a negative errno."""


class Program:
    """A loaded variant with its inner map; `close` unloads it, as does the end of its context.

    `path` is the compiled object, None for classic BPF. `size` is the inner map's number of slots, and the number of
    members that keys are spread over. Raises BpfError, with the verifier's whole log, if the kernel refuses it.
    """

    def __init__(self, variant: Variant, path: Path | None, *, inner_map: InnerMap, size: int) -> None:
        self.variant, self.size = variant, size
        self.maps: dict[str, Map] = {}
        self.inner: Map | None = None
        """The first group's map of sockets, also the template for all inner maps; None if the program has none."""
        self._inner_type = variant.inner_map or inner_map
        self._inner_maps: list[Map] = []
        self._table: tuple[int, ...] = ()
        self._object: Object | None = None
        try:
            if path is not None:
                self._load(Object(path))
            self._counts = self._read_counts()
        except BaseException:
            self.close()
            raise

    def _load(self, loaded: Object) -> None:
        self._object = loaded
        if loaded.has_map("outer_map") or loaded.has_map("inner_map"):
            self.inner = self._create_inner()
        if self.inner is not None and loaded.has_map("outer_map"):
            loaded.set_inner_map("outer_map", self.inner)
        elif self.inner is not None:
            loaded.use_map("inner_map", self.inner)
        loaded.load()
        self.maps = loaded.maps()
        ((self.name, self.fd),) = loaded.program_fds().items()
        if "tmp_index_ovr_map" in self.maps:
            self.override = NO_OVERRIDE
        if "size_map" in self.maps:
            self.maps["size_map"].update(_ONLY, struct.pack("=I", self.size))
        if "outer_map" in self.maps and not self.variant.outer_by_port:
            self.insert_inner_map()
        if "table_map" in self.maps:
            self._table = (0,) * TABLE_SIZE

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the program and its maps; a group keeps what it still uses."""
        if self._object is not None:
            self._object.close()
        for inner in (self.inner, *self._inner_maps):
            if inner is not None:
                inner.close()

    def attach(self, member: socket.socket) -> None:
        """Attach the program to the member's group; OSError carries the kernel's errno."""
        if self.variant.attachment is Attachment.CLASSIC:
            attach_classic(member, self.variant.classic)
        else:
            member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, self.fd)

    def inner_for_group(self) -> Map | None:
        """Return the map of sockets for one more group; None if the program has none. It is closed with the program.

        Raises ValueError for a second group if the program has no outer map.
        """
        if self.inner is None:
            return None
        if self._inner_maps and "outer_map" not in self.maps:
            raise ValueError(f"{self.variant.name} has one map of sockets, and another group uses it: load it again")
        if not self._inner_maps:
            self._inner_maps.append(self.inner)
        else:
            self._inner_maps.append(self._create_inner())
        return self._inner_maps[-1]

    def _create_inner(self) -> Map:
        return create_map(self._inner_type, name="inner_map", key_size=self.variant.key_size, max_entries=self.size)

    def insert_inner_map(self, inner: Map | None = None, *, key: int = 0) -> None:
        """Put an inner map into the outer one, by default the first group's."""
        inner = inner or self.inner
        assert inner is not None, f"{self.variant.name} has an inner map"
        outer, fd, there = self.maps["outer_map"], inner.fd, inner.id
        grace.change(lambda: outer.put(key, fd), is_made=lambda: outer.number_at(key) == there)

    def withdraw_inner(self, *, key: int = 0) -> None:
        """Remove the inner map at a key of the outer one."""
        outer = self.maps["outer_map"]
        grace.change(lambda: outer.remove(key), is_made=lambda: outer.number_at(key) is None)

    @property
    def override(self) -> int:
        """Return the index that the next packet gets whatever its payload says, -1 for none."""
        if "tmp_index_ovr_map" not in self.maps:
            return NO_OVERRIDE
        (value,) = struct.unpack("=i", self._read("tmp_index_ovr_map"))
        return int(value)

    @override.setter
    def override(self, index: int) -> None:
        self.maps["tmp_index_ovr_map"].update(_ONLY, struct.pack("=i", index))

    @property
    def state(self) -> int:
        """Return the number that the program keeps from packet to packet, 0 if it keeps none."""
        if "state_map" not in self.maps:
            return 0
        (value,) = struct.unpack("=Q", self._read("state_map"))
        return int(value)

    @state.setter
    def state(self, value: int) -> None:
        self.maps["state_map"].update(_ONLY, struct.pack("=Q", value))

    @property
    def table(self) -> tuple[int, ...]:
        """Return the table that the program looks members up in, empty if it has none."""
        return self._table

    @table.setter
    def table(self, values: Sequence[int]) -> None:
        self.maps["table_map"].update(_ONLY, pack_table(values))
        self._table = (*values, *[NOBODY] * (TABLE_SIZE - len(values)))

    def forget_select_error(self) -> None:
        """Empty `select_errors` until the helper is called again."""
        if "select_error_map" not in self.maps:
            return
        self.maps["select_error_map"].update(_ONLY, struct.pack("=i", _NOT_CALLED))

    def select_errors(self) -> tuple[int, ...]:
        """Return what bpf_sk_select_reuseport returned last; empty if it was not called since `forget_select_error`."""
        if "select_error_map" not in self.maps:
            return ()
        (value,) = struct.unpack("=i", self._read("select_error_map"))
        return () if value == _NOT_CALLED else (int(value),)

    def new_results(self) -> dict[Result, int]:
        """Return the results that were counted since the last call."""
        before, self._counts = self._counts, self._read_counts()
        return {
            result: (after - earlier) & 0xFFFFFFFF
            for result, earlier, after in zip(Result, before, self._counts, strict=True)
            if after != earlier
        }

    def context(self) -> tuple[Context | None, int | None]:
        """Return what the program recorded of the last packet, and its hash; both None if it records nothing."""
        if "data_check_map" not in self.maps:
            return None, None
        return unpack_context(self._read("data_check_map")[:CONTEXT_SIZE])

    def hashes(self, ports: Iterable[int]) -> list[int]:
        """Return the hash of the last packet from each source port, as bpf/verdict.bpf.c records it."""
        values = (self.maps["hash_map"].at(port) for port in ports)
        return [struct.unpack("=I", value)[0] for value in values if value is not None]

    def migration(self) -> Migration:
        """Return what bpf/migrate.bpf.c recorded of the migration that it decided last."""
        return unpack_migration(self._read("migration_map"))

    def ask(self, offset: int, length: int, header: int = ABSOLUTE, *, buffer: bytes = bytes(64)) -> None:
        """Have bpf/load_bytes.bpf.c read `length` bytes of the next packet into its buffer, which holds `buffer`."""
        self.maps["question_map"].update(_ONLY, pack_question(offset, length, header))
        self.maps["answer_map"].update(_ONLY, pack_answer(-1, buffer))

    def answer(self) -> tuple[int, bytes]:
        """Return what the helper answered to bpf/load_bytes.bpf.c (0 or -errno), and the buffer of 64 bytes."""
        return unpack_answer(self._read("answer_map"))

    def deciding_line(self) -> int:
        """Return the line of source that decided last, 0 if the program does not record it."""
        if "linum_map" not in self.maps:
            return 0
        (line,) = struct.unpack("=I", self._read("linum_map"))
        return int(line)

    def _read_counts(self) -> Sequence[int]:
        result_map = self.maps.get("result_map")
        return result_map.numbers(len(Result)) if result_map is not None else [0] * len(Result)

    def _read(self, name: str) -> bytes:
        value = self.maps[name].lookup(_ONLY)
        assert value is not None, f"{name} is an array: it has every key"
        return value


def attach_classic(
    member: socket.socket, instructions: Sequence[tuple[int, int, int, int]], *, option: int = SO_ATTACH_REUSEPORT_CBPF
) -> None:
    """Attach a classic BPF program (code, jt, jf, k), by default to the member's group; OSError carries the errno."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))  # struct sock_fprog
    member.setsockopt(socket.SOL_SOCKET, option, program)

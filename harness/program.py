# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Load a variant and reach its maps by what they are for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from harness.abi import CONTEXT_SIZE, NO_OVERRIDE, Context, Result, unpack_context
from harness.libbpf import Map, Object, create_map

if TYPE_CHECKING:
    from pathlib import Path

    from harness.layout import InnerMap

_ONLY = struct.pack("=I", 0)
_NOT_CALLED = 1
"""A value that bpf_sk_select_reuseport never returns: 0 and negative errnos are all it has."""


class Program:
    """Hold a loaded variant with its inner map; close it, or use it as a context manager, to unload it.

    Raises BpfError, with the verifier's whole log, if the kernel refuses it.
    """

    def __init__(self, path: Path, *, inner_map: InnerMap, size: int) -> None:
        self.inner: Map = create_map(inner_map, max_entries=size)
        self._object: Object | None = None
        try:
            self._object = Object(path)
            self._object.set_inner_map("outer_map", self.inner)
            self._object.load()
            self.maps = self._object.maps()
            ((self.name, self.fd),) = self._object.program_fds().items()
            self.override = NO_OVERRIDE
            self.present_inner()
            self._counts = self._read_counts()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the program and its maps; what a group still uses stays with the group."""
        if self._object is not None:
            self._object.close()
        self.inner.close()

    def present_inner(self) -> None:
        """Put the inner map into the outer one."""
        self.maps["outer_map"].update(_ONLY, struct.pack("=I", self.inner.fd))

    def withdraw_inner(self) -> None:
        """Leave the outer map empty."""
        self.maps["outer_map"].delete(_ONLY)

    @property
    def override(self) -> int:
        """Return the index set aside for the next packet, -1 for none."""
        (value,) = struct.unpack("=i", self._read("tmp_index_ovr_map"))
        return int(value)

    @override.setter
    def override(self, index: int) -> None:
        self.maps["tmp_index_ovr_map"].update(_ONLY, struct.pack("=i", index))

    def forget_select_error(self) -> None:
        """Make `select_errors` empty until the helper is called again."""
        self.maps["select_error_map"].update(_ONLY, struct.pack("=i", _NOT_CALLED))

    def select_errors(self) -> tuple[int, ...]:
        """Return what bpf_sk_select_reuseport answered last, empty if it was not called since."""
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

    def context(self) -> tuple[Context, int]:
        """Return what the program saw of the last packet, and its hash."""
        return unpack_context(self._read("data_check_map")[:CONTEXT_SIZE])

    def deciding_line(self) -> int:
        """Return the line of source that decided last."""
        (line,) = struct.unpack("=I", self._read("linum_map"))
        return int(line)

    def _read_counts(self) -> list[int]:
        result_map = self.maps["result_map"]
        values = (result_map.lookup(struct.pack("=I", result)) for result in Result)
        return [struct.unpack("=I", value)[0] if value else 0 for value in values]

    def _read(self, name: str) -> bytes:
        value = self.maps[name].lookup(_ONLY)
        assert value is not None, f"{name} is an array: it has every key"
        return value

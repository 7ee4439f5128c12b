# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's BPF objects, and those that no descriptor of this process leads to."""

from __future__ import annotations

import ctypes
import errno
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernel.holdings.descriptors import descriptors
from harness.kernel.holdings.holding import Holding, Left, least
from harness.loader.bindings import BpfError, library

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bpf(StrEnum):
    """The kinds of BPF objects that have ids; the value is libbpf's word for it."""

    PROGRAM = "prog"
    MAP = "map"
    LINK = "link"


_NAMES = {Bpf.PROGRAM: "program", Bpf.MAP: "map", Bpf.LINK: "link"}


class BpfObjects(Holding):
    """The objects of one kind, those of the whole machine."""

    def __init__(self, kind: Bpf) -> None:
        self._kind = kind
        self._newest = 0
        self._made_by: dict[int, str] = {}
        self._reported: set[int] = set()  # and those that were there before

    def begin(self) -> None:
        """Take note of those that are there before the first case."""
        self.note("")
        self._reported = set(self._made_by)

    def note(self, case: str) -> None:
        """Take note of those that a case has made."""
        for number in bpf_ids(self._kind, after=self._newest):
            self._made_by[number] = case
            self._newest = number

    def left(self, case: str) -> list[Left]:
        """Return those that were lost, with the case that made each."""
        found = least(lambda: set(bpf_ids(self._kind)) - self._reported - _own_ids(self._kind))
        self._reported |= found
        name = _NAMES[self._kind]
        return [Left(f"{name} {each}, made by {self._made_by.get(each, 'no case')}") for each in sorted(found)]


def bpf_ids(kind: Bpf, *, after: int = 0) -> Iterator[int]:
    """Yield the ids above `after` of the kernel's BPF objects of a kind, those of other processes included.

    None where the kernel gives objects of the kind no ids (links before 5.8). BpfError carries the kernel's errno.
    """
    found = ctypes.c_uint32(after)
    where = ctypes.byref(found)
    next_id = getattr(library(), f"bpf_{kind}_get_next_id")
    while not (refused := next_id(found, where)):
        yield found.value
    # Every case ends here three times: an error that is expected is not worth an exception.
    if -refused not in {errno.ENOENT, errno.EINVAL}:
        raise BpfError(-refused, f"list BPF objects ({kind})")


def _own_ids(kind: Bpf) -> set[int]:
    """Return the ids of the BPF objects of a kind that this process has descriptors of."""
    ids = set()
    for number, target in descriptors():
        if target.startswith("anon_inode:bpf"):
            told = Path(f"/proc/self/fdinfo/{number}").read_text()
            ids |= {int(found) for found in re.findall(rf"^{kind}_id:\s*(\d+)$", told, re.MULTILINE)}
    return ids

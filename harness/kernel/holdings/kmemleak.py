# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Memory that nothing points to any more, as a kernel with CONFIG_DEBUG_KMEMLEAK tells it.

Documentation/dev-tools/kmemleak.rst: a scan looks for pointers in all memory that may hold any. What it misses may have
been on its way from one place to another; a second scan a while later tells.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernel.holdings.holding import HoldingError

if TYPE_CHECKING:
    from collections.abc import Callable

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")

YOUNGEST = 5.0
"""Seconds for which an object is not suspected (MSECS_MIN_AGE, mm/kmemleak.c)."""

_OBJECT = re.compile(r"^unreferenced object 0x[0-9a-f]+ \(size (\d+)\):$", re.MULTILINE)
_CALLER = re.compile(r"^ {4}(?:\[<\S+>\] )?(\w[\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+", re.MULTILINE)
_ALLOCATORS = re.compile(
    r"^(?:_*k\w*alloc\w*|_*kmem_cache_alloc\w*|_*vmalloc\w*|_*kmemdup\w*|_*kvmalloc\w*|slab_post_alloc_hook|kmemleak_\w+|"
    r"krealloc\w*|__alloc_percpu\w*|pcpu_alloc\w*|bpf_map_area_alloc|__bpf_map_area_alloc)$"
)
_CALLERS_SHOWN = 3


class KmemleakError(HoldingError):
    """The kernel does not look for leaks; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Memory that nothing points to."""

    size: int  # bytes
    callers: tuple[str, ...]  # the functions that led to it, the innermost first, without the allocator's own
    text: str  # as the kernel tells it

    def __str__(self) -> str:
        """Say in a line who allocated how much."""
        return f"{self.size} bytes that {' < '.join(self.callers[:_CALLERS_SHOWN]) or 'nobody known'} allocated"


def parse(text: str) -> list[Leak]:
    """Return the objects in what the kernel's file says."""
    heads = list(_OBJECT.finditer(text))
    leaks = []
    for head, following in pairwise([*heads, None]):
        assert head is not None
        part = text[head.start() : following.start() if following else None].rstrip()
        callers = _CALLER.findall(part)
        while callers and _ALLOCATORS.match(callers[0]):
            del callers[0]
        leaks.append(Leak(size=int(head[1]), callers=tuple(callers), text=part))
    return leaks


class Kmemleak:
    """The kernel's file, and what was found in it so far."""

    def __init__(self, file: Path = KMEMLEAK, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._file, self._sleep = file, sleep

    def forget(self) -> None:
        """Take what is suspected now for no leak: of the boot, or reported already. Raises KmemleakError."""
        self._write("scan")
        self._write("clear")

    def new(self) -> list[Leak]:
        """Scan twice, the second time when what was allocated last is old enough; return what is new since `forget`.

        Raises KmemleakError.
        """
        self._write("scan")
        self._sleep(YOUNGEST)
        self._write("scan")
        leaks = parse(self._file.read_text(errors="replace"))
        if leaks:
            self._write("clear")
        return leaks

    def _write(self, command: str) -> None:
        try:
            self._file.write_text(command)
        except PermissionError:
            raise KmemleakError(
                "kmemleak has switched itself off, and finds nothing from here on: see the kernel's log; its pool may "
                "have run out (CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE), or memory (--memory)"
            ) from None

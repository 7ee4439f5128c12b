# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The memory of a kernel with kmemleak, and what of it nothing points to any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.kernel.holdings.holding import Holding, Left

if TYPE_CHECKING:
    from harness.kernel.holdings.kmemleak import Kmemleak


class Memory(Holding):
    """All memory that the kernel has allocated."""

    def __init__(self, kmemleak: Kmemleak) -> None:
        self._kmemleak = kmemleak

    def begin(self) -> None:
        """Take what is suspected before the first case for no leak."""
        self._kmemleak.forget()

    def left(self, case: str) -> list[Left]:
        """Return what leaked in a file, with the functions that allocated it."""
        return [Left(str(leak), detail=leak.text) for leak in self._kmemleak.new()]

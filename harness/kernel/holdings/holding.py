# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What each kind of holding can be asked, in the order of a session."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_WAIT_SECONDS = 10.0
"""How long the kernel may take to free what nobody holds: after a grace period of RCU, and in a worker."""

_LOOK_EVERY = 0.02

_Held = TypeVar("_Held", int, set[int])


class HoldingError(Exception):
    """The kernel does not tell, or tells no longer, what it holds; the message says why, and what to do."""


@dataclass(frozen=True)
class Left:
    """One thing that cases left without an owner."""

    line: str
    """What it is, and which case it may be of: a noun phrase."""

    detail: str = ""
    """What the kernel says of it."""


class Holding:
    """One kind of what the kernel holds; each method may raise HoldingError, and then none is to be called again."""

    def begin(self) -> None:
        """Take note of what is there before the first case."""

    def note(self, case: str) -> None:
        """Take note of what is there after a case."""

    def left(self, case: str) -> list[Left]:
        """Return what the cases of a file left, once; `case` is the last of them, and has been noted."""
        raise NotImplementedError

    def left_at_end(self, case: str) -> list[Left]:
        """Return what the last file left, when the session's fixtures have ended, too."""
        return self.left(case)


def least(look: Callable[[], _Held]) -> _Held:
    """Return what `look` returns, once that is nothing or the kernel has had time enough."""
    until = time.monotonic() + _WAIT_SECONDS
    while (held := look()) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
    return held

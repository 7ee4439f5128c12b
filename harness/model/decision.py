# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a rule is given and what it returns: a view of a packet, and a decision. Pure."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from harness.model.abi import Result

if TYPE_CHECKING:
    from harness.model.layout import Layout
    from harness.model.packets import Packet


class HashUnknownError(ValueError):
    """The kernel's hash decides, and it was not given."""


class View(NamedTuple):
    """What one run of a program sees of a packet. A tuple, since a batch makes thousands.

    `payload` is that of the segment that the run is for: the SYN's, or with SYN cookies the ACK's in the second run.
    """

    packet: Packet
    payload: bytes
    hash: int | None
    """`sk_reuseport_md.hash`. Keyed per boot, hence an input; None if it is not known."""

    @property
    def known_hash(self) -> int:
        """Return the hash; HashUnknownError if it is None."""
        if self.hash is None:
            raise HashUnknownError("the outcome depends on the kernel's hash, which is not known: give `hash_`")
        return self.hash


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a program decides about one packet.

    `index` is the last one that it called `bpf_sk_select_reuseport` with, None if it did not call it; `error` is what
    the call returned (0 or -errno). `member` is the selected socket, None if none was selected: a program that passes
    without one leaves the choice to the kernel's hash. `result` is what is counted, None if nothing is.
    """

    result: Result | None
    index: int | None = None
    error: int = 0
    member: int | None = None
    passes: bool = True
    """Whether the verdict is SK_PASS, for programs that count no `result`."""
    state: int | None = None
    """The new `Layout.state`; None if it does not change."""
    override_spent: bool = False
    """Whether the run used up `Layout.index_override`."""

    @property
    def verdict_passes(self) -> bool:
        """Return whether the program returns SK_PASS."""
        return self.passes if self.result is None else self.result.passes


def select(layout: Layout, index: int, *, pass_on_failure: bool = False) -> Decision:
    """Return the decision to select the socket at an index of the inner map (bpf/select.h `select_from`)."""
    if not layout.inner_present:
        return Decision(result=Result.DROP_ERR_INNER_MAP)
    member = layout.slots.get(index)
    if member is not None:
        return Decision(result=Result.PASS, index=index, member=member)
    failed = Result.PASS_ERR_SK_SELECT_REUSEPORT if pass_on_failure else Result.DROP_ERR_SK_SELECT_REUSEPORT
    return Decision(result=failed, index=index, error=layout.foreign.get(index, -errno.ENOENT))

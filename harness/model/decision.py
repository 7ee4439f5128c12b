# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a variant may see of a packet, and what it makes of it: the two sides of a rule. Pure."""

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
    """Hold what one run of a program may see; addresses and ports are those of `packet`. A batch makes thousands.

    `payload` is that of the segment at hand: the SYN's, or under SYN cookies the ACK's on the second run.
    """

    packet: Packet
    payload: bytes
    hash: int | None
    """`sk_reuseport_md.hash`, keyed by a secret of the boot and therefore an input; None where nobody reported it."""

    @property
    def known_hash(self) -> int:
        """Return the hash; HashUnknownError if it is None."""
        if self.hash is None:
            raise HashUnknownError("the outcome depends on the kernel's hash, which is not known: give `hash_`")
        return self.hash


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Say what a program makes of one packet.

    `index` is what it asked `bpf_sk_select_reuseport` for last, None if it never called it; `error` is the answer
    (0 or -errno). `member` is the socket that was selected, None if none was: a program that passes without one
    leaves the choice to the hash. `result` is what is counted, None if nothing is.
    """

    result: Result | None
    index: int | None = None
    error: int = 0
    member: int | None = None
    passes: bool = True
    """Whether the verdict is SK_PASS; a counted `result` says so itself."""
    state: int | None = None
    """What the program's own memory (`Layout.state`) becomes; None if it stays."""
    override_spent: bool = False
    """Whether the index that was set aside is gone after this run."""

    @property
    def verdict_passes(self) -> bool:
        """Tell whether the program returns SK_PASS."""
        return self.passes if self.result is None else self.result.passes


def select(layout: Layout, index: int, *, pass_on_failure: bool = False) -> Decision:
    """Return the decision of a program that selects the socket at an index (bpf/select.h `select_from`)."""
    if not layout.inner_present:
        return Decision(result=Result.DROP_ERR_INNER_MAP)
    member = layout.slots.get(index)
    if member is not None:
        return Decision(result=Result.PASS, index=index, member=member)
    failed = Result.PASS_ERR_SK_SELECT_REUSEPORT if pass_on_failure else Result.DROP_ERR_SK_SELECT_REUSEPORT
    return Decision(result=failed, index=index, error=layout.foreign.get(index, -errno.ENOENT))

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The form of xdist's messages on the way from a guest to its relay: one string of bytes for several messages.

execnet would serialise in Python, value by value, and send each message by itself. Reports are strings of bytes already
(`vm.guest.report_codec`), and stay so as far as the controller.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = tuple[str, dict[str, Any]]

ALONE = "alone"
"""The name of a message that is not xdist's: `cases` are those that need the machine to themselves."""

FORMAT = 4
"""The version of marshal, for every Python since 3.4. Like execnet it takes built-in types alone."""


def pack(messages: Sequence[Message]) -> bytes:
    """Return messages as one string of bytes. Raises ValueError for a value of no built-in type."""
    return marshal.dumps(list(messages), FORMAT)


def unpack(sent: bytes | Message) -> list[Message]:
    """Return the messages that were sent: packed ones, or one as it is."""
    return marshal.loads(sent) if isinstance(sent, bytes) else [sent]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Send what xdist's worker says from a guest to its relay as strings of bytes, several messages at once.

execnet serialises in Python, value by value, and sends each message by itself. `vm.guest.report_codec` has made a
string of bytes of each report already, which stays one as far as the controller.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = tuple[str, dict[str, Any]]

FORMAT = 4
"""Of marshal: written and read by every Python since 3.4. Like execnet's, it holds the built-in types and no others."""


def pack(messages: Sequence[Message]) -> bytes:
    """Return messages as one string of bytes. Raises ValueError for what is of no built-in type."""
    return marshal.dumps(list(messages), FORMAT)


def unpack(sent: bytes | Message) -> list[Message]:
    """Return the messages that were sent: packed ones, or one as it is."""
    return marshal.loads(sent) if isinstance(sent, bytes) else [sent]

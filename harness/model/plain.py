# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Values of the model as JSON has them. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """Return a value without what JSON does not know: an enum's value, bytes as hexadecimal, a list for a tuple.

    What execnet takes from a guest is a text or a number, too, and no subclass of one.
    """
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    return [plain(item) for item in value] if isinstance(value, tuple) else value

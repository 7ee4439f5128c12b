# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read what was saved, of either kind: a history, or packets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.campaign import saved, saved_packets
from harness.campaign.saved import Saved
from harness.campaign.saved_packets import SavedPackets

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> Saved | SavedPackets:
    """Read a file that was saved, or the last of a console's log; ValueError says what is wrong with it."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    history = text.rfind(f"{saved.FORMAT} {saved.VERSION}: ")
    packets = text.rfind(f"{saved_packets.FORMAT} {saved_packets.VERSION}, ")
    if packets > history and (found := saved_packets.from_log(text)) is not None:
        return SavedPackets(packets=found)
    if history >= 0 and (last := saved.from_log(text)) is not None:
        return last
    try:
        return from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is damaged: {error}") from error


def from_json(given: Any) -> Saved | SavedPackets:
    """Return what was written as JSON; ValueError says what is wrong with it."""
    if isinstance(given, dict) and given.get("format") == saved_packets.FORMAT:
        return SavedPackets.from_json(given)
    return Saved.from_json(given)

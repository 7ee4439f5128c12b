# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read what was saved, of any kind: a history, packets, or a pair of histories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.campaign import saved, saved_packets, saved_pairs
from harness.campaign.saved import Saved
from harness.campaign.saved_packets import SavedPackets
from harness.campaign.saved_pairs import SavedPair

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> Saved | SavedPackets | SavedPair:
    """Read a file that was saved, or the last of a console's log; ValueError says what is wrong with it."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    if (last := _last_in_log(text)) is not None:
        return last
    try:
        return from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is damaged: {error}") from error


def _last_in_log(text: str) -> Saved | SavedPackets | SavedPair | None:
    """Return what a console's log has last; None if it is no such log."""
    places = {kind: text.rfind(f"{kind.FORMAT} {kind.VERSION}") for kind in (saved, saved_packets, saved_pairs)}
    last = max(places, key=lambda kind: places[kind])
    found: Saved | SavedPackets | SavedPair | None = last.from_log(text)
    return found


def from_json(given: Any) -> Saved | SavedPackets | SavedPair:
    """Return what was written as JSON; ValueError says what is wrong with it."""
    if isinstance(given, dict) and given.get("format") == saved_packets.FORMAT:
        return SavedPackets.from_json(given)
    if isinstance(given, dict) and given.get("format") == saved_pairs.FORMAT:
        return SavedPair.from_json(given)
    return Saved.from_json(given)

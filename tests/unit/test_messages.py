# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a guest's worker says leaves in strings of bytes, a case's messages together."""

from __future__ import annotations

from typing import Any

from vm.guest import wire_format
from vm.guest.fastpath import Messages


def test_messages_come_back_as_they_were() -> None:
    said: list[wire_format.Message] = [
        ("logstart", {"nodeid": "a", "location": ("a", None, "b")}),
        ("report", {"data": b""}),
    ]
    assert wire_format.unpack(wire_format.pack(said)) == said


def test_single_message_is_left_as_it_is() -> None:
    assert wire_format.unpack(("workerready", {})) == [("workerready", {})]


def test_messages_of_a_case_leave_together() -> None:
    sent: list[Any] = []
    said = Messages(sent.append)
    said.send("ready")
    said.held = True
    said.send("begin", nodeid="a")
    said.send("report", nodeid="a")
    assert len(sent) == 1
    said.held = False
    said.send("complete", item_index=0)
    assert [wire_format.unpack(each) for each in sent] == [
        [("ready", {})],
        [("begin", {"nodeid": "a"}), ("report", {"nodeid": "a"}), ("complete", {"item_index": 0})],
    ]


def test_message_that_cannot_be_packed_is_left_to_execnet() -> None:
    sent: list[Any] = []
    value = object()
    Messages(sent.append).send("report", data=value)
    assert sent == [("report", {"data": value})]

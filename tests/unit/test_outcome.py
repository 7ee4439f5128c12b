# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A comparison says nothing of equal outcomes and names exactly what differs of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.abi import Context, Result
from harness.model.outcome import Delivered, Dropped, Outcome, Reply, ReplyKind, difference, selection_of

CONTEXT = Context(
    ip_protocol=17,
    eth_protocol=0x0800,
    source="192.0.2.9",
    source_port=40000,
    destination="192.0.2.1",
    destination_port=7000,
    bind_inany=True,
    length=16,
)
OUTCOME = Outcome(
    received={3: (b"12345678",)}, results={Result.PASS: 1}, context=CONTEXT, select_errors=(0,), replies=()
)
RESET = Reply(kind=ReplyKind.RESET, address="192.0.2.9", port=40000, ack=1001)


def test_equal_outcomes_have_no_difference() -> None:
    assert difference(OUTCOME, replace(OUTCOME)) == ""


def test_wrong_member_is_named_and_underlined() -> None:
    text = difference(OUTCOME, replace(OUTCOME, received={4: (b"12345678",)}))
    expected, observed, carets, meaning = text.splitlines()
    assert "member 3" in expected
    assert "member 4" in observed
    assert carets.index("^") == expected.index("member 3")
    assert carets.strip("^ ") == ""
    assert meaning == "  - the packet reached member 4 instead of member 3"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"received": {}}, "nothing arrived; member 3 should hold it"),
        ({"received": {}}, "  observed  no member"),
        ({"received": {3: (b"12345678",), 4: (b"12345678",)}}, "member 3, 4 instead of member 3"),
        ({"received": {3: (b"1234567",)}}, "member 3 holds other bytes"),
        ({"received": {3: (b"12345678",) * 2}}, "another number of packets"),
        ({"results": {Result.PASS: 2}}, "PASS +2"),
        ({"context": replace(CONTEXT, length=15)}, "len 15"),
        ({"context": replace(CONTEXT, bind_inany=False)}, "bind_inany False"),
        ({"context": None}, "no record"),
        ({"select_errors": (-2,)}, "select -2"),
        ({"override": 5}, "override 5"),
        ({"state": 42}, "state 0x2a"),
        ({"state": 42}, "  - state_map holds another number"),
        ({"replies": (RESET,)}, "RST to 192.0.2.9:40000, ack 1001"),
    ],
)
def test_every_part_is_compared(changes: dict[str, object], words: str) -> None:
    text = difference(OUTCOME, replace(OUTCOME, **changes))  # type: ignore[arg-type]
    assert words in text
    assert "^" in text


def test_outcomes_stand_side_by_side() -> None:
    """Twelve bytes of each datagram, the number of datagrams if there are several, and of a record what differs."""
    long, short = bytes(range(13)), b"\x0f"
    mine = replace(OUTCOME, received={3: (long,)}, override=5)
    other = replace(mine, override=6)
    same = "member 3 00 01 02 03 04 05 06 07 08 09 0a 0b · PASS +1 · len 16 · select 0"
    lines = difference(mine, other).splitlines()
    assert lines == [
        f"  expected  {same} · override 5 · no reply",
        f"  observed  {same} · override 6 · no reply",
        "            " + " " * (lines[0].index("override") - 12) + "^" * len("override 5"),
        "  - tmp_index_ovr_map holds another index",
    ]
    two = replace(OUTCOME, received={3: (long, short)})
    text = difference(replace(two, context=replace(CONTEXT, source_port=1)), two)
    assert "member 3 ×2 00 01 02 03 04 05 06 07 08 09 0a 0b|0f · PASS +1 · len 16, source_port 1 " in text


def test_what_is_drawn_at_random_is_neither_compared_nor_shown() -> None:
    assert replace(RESET, options=b"\x01") == RESET
    assert Delivered(3, hash=7) == Delivered(3)
    assert Dropped(None, hash=7) == Dropped(None)
    assert (RESET.sequence, RESET.options) == (0, b"")
    assert "options" not in repr(replace(RESET, options=b"\x01"))
    assert "hash" not in repr(Delivered(3, hash=7))
    assert "hash" not in repr(Dropped(None, hash=7))


def test_what_is_not_said_of_an_outcome_is_that_nothing_happened() -> None:
    assert (Outcome().state, Outcome().received, Outcome().replies) == (0, {}, ())
    assert Delivered(3) == Delivered(3, Result.PASS)


def test_difference_beyond_the_bytes_shown_is_shown() -> None:
    """Payloads that part after their first bytes are two lines that look alike, unless they are cut elsewhere."""
    mine, other = replace(OUTCOME, received={3: (bytes(20),)}), replace(OUTCOME, received={3: (bytes(19) + b"\x07",)})
    text = difference(mine, other)
    expected, observed, carets, meaning = text.splitlines()
    assert expected != observed.replace("observed", "expected")
    assert "07" in observed
    assert "^" in carets
    assert meaning == "  - member 3 holds other bytes or another number of packets"


def test_lengths_that_differ_are_shown() -> None:
    text = difference(replace(OUTCOME, received={3: (bytes(20),)}), replace(OUTCOME, received={3: (bytes(21),)}))
    assert "20 bytes" in text.splitlines()[0]
    assert "21 bytes" in text.splitlines()[1]


def test_results_in_another_order_are_the_same_results() -> None:
    twice = {Result.PASS_ERR_SK_SELECT_REUSEPORT: 1, Result.PASS: 1}
    mine = replace(OUTCOME, results=twice)
    other = replace(OUTCOME, results=dict(reversed(twice.items())), received={4: (b"12345678",)})
    assert difference(mine, other).splitlines()[3:] == ["  - the packet reached member 4 instead of member 3"]


def test_program_that_keeps_no_record_ran_all_the_same() -> None:
    ran, idle = replace(OUTCOME, context=None), replace(OUTCOME, context=None, results={})
    assert "no record" in difference(OUTCOME, ran)
    assert "not run" not in difference(OUTCOME, ran)
    assert "not counted" in difference(OUTCOME, idle)


def test_ipv6_address_of_a_reply_is_told_from_its_port() -> None:
    assert str(replace(RESET, address="2001:db8::9")) == "RST to [2001:db8::9]:40000, ack 1001"


def test_member_that_should_hold_nothing_is_said() -> None:
    dropped = replace(OUTCOME, received={})
    assert "member 3 received what should have been dropped" in difference(dropped, OUTCOME)


def test_verdict_is_the_outcome_in_words_of_a_rule() -> None:
    assert selection_of(OUTCOME, hash_=7) == Delivered(3, Result.PASS)
    assert selection_of(replace(OUTCOME, received={}, results={Result.DROP_MISC: 1})) == Dropped(Result.DROP_MISC)
    assert selection_of(Outcome(received={1: (b"",)})) == Delivered(1, None)


def test_selection_shows_what_the_program_recorded() -> None:
    delivered, dropped = selection_of(OUTCOME), selection_of(replace(OUTCOME, received={}))
    assert delivered.context == dropped.context == CONTEXT
    assert selection_of(Outcome(received={1: (b"",)})).context is None


def test_verdict_of_two_holders_is_none() -> None:
    with pytest.raises(ValueError, match="2 members"):
        selection_of(replace(OUTCOME, received={3: (b"",), 4: (b"",)}))


def test_sequence_of_a_reply_is_not_compared() -> None:
    assert replace(RESET, sequence=5) == RESET
    assert replace(RESET, ack=1002) != RESET

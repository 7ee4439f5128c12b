# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Campaigns without a kernel: files of histories, what is known of hashes, and the options."""

from __future__ import annotations

import json
import marshal
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from runs import run_pytest

from harness.campaign.files import read
from harness.campaign.hashes import Hashes
from harness.campaign.saved import Saved, log_line
from harness.campaign.table import BYTES, LONGEST, NUMBERS_OF_STEPS, SHORTEST, numbers_of, step_of
from harness.model.abi import Result
from harness.model.expect import reciprocal_scale
from harness.model.layout import Family, Protocol
from harness.model.life.behaviour import Behaviour
from harness.model.life.datagram import Datagram
from harness.model.life.sockets import receive
from harness.model.life.state import World
from harness.model.life.steps import Attach, Connect, Crowd, Disconnect, Open
from harness.model.life.text import from_json
from harness.plugins.kept_histories import HISTORIES, keep

if TYPE_CHECKING:
    from pathlib import Path

FOUND = Saved(
    steps=(Open(0), Open(1, Family.IPV6, device=True), Connect(0, 556)),
    difference="after step 3, Connect(0, peer=556), a datagram reaches socket 1, not socket 0",
    sentence="a datagram reaches socket 1, not socket 0",
    kernel="6.18.44",
    unknown=("K24",),
    seed=7,
    frame="00" * 60,
)


def test_what_was_found_can_leave_a_guest() -> None:
    """Execnet takes plain values alone; marshal refuses what is not plain just so."""
    assert marshal.dumps(FOUND.to_json())


def test_history_is_kept_and_read(tmp_path: Path) -> None:
    kept = keep(FOUND.to_json(), tmp_path)
    assert kept.parent == HISTORIES
    assert read(tmp_path / kept) == FOUND
    assert (tmp_path / kept).with_suffix(".pcap").stat().st_size == 24 + 16 + 60
    assert sorted((tmp_path / HISTORIES).iterdir()) == [tmp_path / kept, (tmp_path / kept).with_suffix(".pcap")]


def test_case_to_paste_runs_the_same_history() -> None:
    names: dict[str, object] = {}
    exec(FOUND.as_case(), names)
    seen = []
    names["test_history"](lambda *steps, unknown: seen.append((steps, unknown)))  # type: ignore[operator]
    assert seen == [(FOUND.steps, FOUND.unknown)]


def test_last_history_in_a_console_is_read(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text(
        f"[ 1.0] {log_line(Protocol.UDP, [1, 2])}\n[ 2.0] {log_line(Protocol.TCP, [3, 4])}\n[ 2.1] BUG: a fault\n"
    )
    found = read(tmp_path / "console.log")
    assert isinstance(found, Saved)
    assert found.steps == (step_of(3, Protocol.TCP), step_of(4, Protocol.TCP))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "damaged"),
        ('{"format": "reuseport history", "version": 1', "damaged"),
        ("[]", '"format" is not there'),
        (json.dumps({"format": "reuseport history", "version": 9}), "version 9, and this harness reads version 1"),
        (json.dumps(FOUND.to_json() | {"steps": [["Dance"]]}), "step 1"),
        (json.dumps(FOUND.to_json() | {"unknown": "K24"}), "no list of texts"),
        (json.dumps(FOUND.to_json() | {"seed": "x"}), "no number"),
    ],
)
def test_file_that_is_no_history_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "history.json").write_text(content)
    with pytest.raises(ValueError, match=complaint):
        read(tmp_path / "history.json")


def test_step_that_had_fewer_fields_when_it_was_saved_is_as_usual() -> None:
    assert from_json([["Crowd", "ipv6"], ["Crowd"]]) == (Crowd(Family.IPV6), Crowd())
    with pytest.raises(ValueError, match=r"step 1, .*: Connect has 2 fields"):
        from_json([["Connect"]])


@pytest.mark.parametrize("protocol", Protocol)
def test_histories_have_every_kind_of_step_and_are_about_few_at_a_time(protocol: Protocol) -> None:
    source = random.Random(1)
    drawn = [numbers_of(source.randbytes(BYTES), protocol) for _ in range(300)]
    assert all(SHORTEST <= len(numbers) <= LONGEST and max(numbers) < NUMBERS_OF_STEPS for numbers in drawn)
    kinds = [{type(step_of(number, protocol)) for number in numbers} for numbers in drawn]
    every = {type(step_of(number, protocol)) for number in range(NUMBERS_OF_STEPS >> 4)}
    assert set().union(*kinds) == every
    assert all(Open in each for each in kinds)
    assert sum(map(len, kinds)) / len(kinds) < 0.5 * len(every)


def test_bytes_that_are_zero_are_the_shortest_history_about_all_topics() -> None:
    numbers = numbers_of(bytes(BYTES), Protocol.UDP)
    assert [step_of(number) for number in numbers] == [Open(0)] * SHORTEST


def test_each_answer_narrows_a_hash() -> None:
    """What two groups of different sizes answered leaves one place in a third, whatever index the packets name."""
    secret = 0x9000_0000
    hashes, packet = Hashes(), Datagram(Family.IPV4, 20000, 0)
    for size in (2, 3, 5):
        world = World(Behaviour())
        for number in range(size):
            Open(number).apply(world)
        hashes.check(world, replace(packet, index=size), reciprocal_scale(secret, size))
    world = World(Behaviour())
    for number in range(4):
        Open(number).apply(world)
    assert hashes.check(world, packet, None) == {reciprocal_scale(secret, 4)}


def test_answer_tells_how_often_a_program_ran() -> None:
    """A group with connections runs its program again for a better member than the hash selected."""
    # A connected socket stays in the group, and the group is tried at the first member of the chain.
    world = World(Behaviour(four_tuple_hash=False, first_group_wins=True))
    packet = Datagram(Family.IPV4, 20000, index=2)  # a place beyond both members: the hash decides
    for step in (Open(2, specific=True), Connect(2, peer=556), Open(1, specific=True)):
        step.apply(world)
    receive(world, world.sockets[2])
    for later in (Disconnect(2), Attach(1)):
        later.apply(world)
    ran = {}
    for holder in (1, 2):
        hashes = Hashes()
        assert hashes.check(world, packet, holder) == {1, 2}
        ran[holder] = hashes.totals
    assert ran == {1: [Counter({Result.PASS: 2})], 2: [Counter({Result.PASS: 1})]}
    unseen = Hashes()
    unseen.possible(world, packet, counted=True)
    assert sorted(total[Result.PASS] for total in unseen.totals) == [1, 2]


CASE = """
import pytest
@pytest.mark.history
def test_of_histories(): pass
def test_of_something_else(): pass
"""
PLUGINS = (
    "-p",
    "harness.plugin",
    "-p",
    "harness.plugins.kept_histories",
    "-p",
    "harness.plugins.campaigns",
    "-p",
    "harness.plugins.histories",
    "--where-possible",
)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--campaign", "0"), "more than 0 seconds"),
        (("--campaign", "soon"), "invalid float value: 'soon'"),
        (("--campaign", "1", "--seed", "x"), "invalid int value: 'x'"),
        (("--seed", "1"), "--seed is for --campaign"),
        (("--unknown", "K999"), "no such entry"),
        (("--unknown", "K1"), "the model knows nothing of it"),
        (("--replay", "nowhere.json"), "nowhere.json: it cannot be read: No such file"),
        (("--replay", "test_topic.py"), "test_topic.py: it is damaged"),
        (("--campaign", "1", "--replay", "test_topic.py"), "give one of them"),
    ],
)
def test_wrong_options_are_refused_before_any_case(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    done = run_pytest(tmp_path, [*PLUGINS, *options], source=CASE, variables={})
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert complaint in done.output


def test_campaign_runs_its_cases_alone(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, [*PLUGINS, "--campaign", "1"], source=CASE, variables={})
    assert "1 passed, 1 deselected" in done.output

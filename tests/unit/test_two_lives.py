# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What goes on beside a history, in a process of its own, and the histories that may be beside each other."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from harness.campaign.beside import Beside, BesideError
from harness.campaign.together import drawn, without_packets
from harness.model.layout import Protocol
from harness.model.life.segments import Cookies, Migrate, Segment
from harness.model.life.steps import Close, Crowd, Leave, Open

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = min(os.sched_getaffinity(0))


def until_told(is_over: Callable[[], bool]) -> dict[str, object]:
    rounds = 0
    while not is_over():
        rounds += 1
        time.sleep(0.001)
    return {"rounds": rounds, "process": os.getpid(), "cpus": sorted(os.sched_getaffinity(0))}


def test_other_process_goes_on_until_it_is_told_to_end() -> None:
    before = os.sched_getaffinity(0)
    said = Beside(until_told, cpu=CPU).end()
    assert said["process"] != os.getpid()
    assert said["cpus"] == [CPU]
    assert os.sched_getaffinity(0) == before


def test_other_process_that_is_done_early_waits_to_be_asked() -> None:
    beside = Beside(lambda is_over: ["done"] * 100_000, cpu=CPU)
    assert beside.end() == ["done"] * 100_000


def test_failure_of_the_other_process_is_told_with_its_cause() -> None:
    def fail(is_over: Callable[[], bool]) -> None:
        raise ValueError("no such thing")

    with pytest.raises(BesideError, match=r"(?s)fail.*ValueError: no such thing"):
        Beside(fail, cpu=CPU).end()


def test_death_of_the_other_process_is_told() -> None:
    def die(is_over: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(BesideError, match=r"without a word|does not answer"):
        Beside(die, cpu=CPU).end()


def test_other_process_leaves_an_interrupt_to_this_one() -> None:
    def interrupted(is_over: Callable[[], bool]) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "still here"

    assert Beside(interrupted, cpu=CPU).end() == "still here"


@pytest.mark.parametrize("protocol", Protocol)
def test_histories_beside_each_other_set_nothing_for_both(protocol: Protocol) -> None:
    """The sysctls are the namespace's, and the wire can only be read by one: neither is touched from beside."""
    made = [drawn(random.Random(seed), protocol, crowds=seed % 2 == 0) for seed in range(200)]
    steps = [step for history in made for step in history]
    assert not any(isinstance(step, Cookies | Migrate) for step in steps)
    assert any(isinstance(step, Crowd) for step in steps)
    assert not any(isinstance(step, Crowd) for history in made[1::2] for step in history)
    quiet = without_packets(steps)
    assert not any(isinstance(step, Segment | Leave) for step in quiet)
    assert {type(step) for step in quiet} >= {Open, Close}
    assert drawn(random.Random(7), protocol, crowds=True) == drawn(random.Random(7), protocol, crowds=True)

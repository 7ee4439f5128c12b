# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories at once, without a kernel: the process beside, the pairs, how they are made shorter and kept."""

from __future__ import annotations

import json
import marshal
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness.campaign import saved
from harness.campaign.beside import Beside, BesideError
from harness.campaign.files import read
from harness.campaign.pair import Pair, drawn, pair_of, without_packets
from harness.campaign.saved_pairs import SavedPair, log_line
from harness.campaign.shorten import TRIES, shorter, tries_of
from harness.campaign.table import LONGEST, NUMBERS_OF_STEPS
from harness.campaign.together import TogetherError
from harness.model.layout import Family, Protocol
from harness.model.life.segments import Cookies, Migrate, Segment
from harness.model.life.state import Program
from harness.model.life.steps import Attach, Close, Crowd, Fill, Leave, Open
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.model.life.steps import Step

CPU = min(os.sched_getaffinity(0))
LONGEST_LINE = 976


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
    both = (protocol, protocol)
    made = [drawn(f"{seed}", both, crowds=seed % 2 == 0) for seed in range(200)]
    pairs = [pair_of(numbers, both, 2) for numbers in made]
    steps = [step for pair in pairs for step in (*pair.first, *pair.second)]
    assert not any(isinstance(step, Cookies | Migrate) for step in steps)
    assert any(isinstance(step, Crowd) for step in steps)
    assert not any(isinstance(step, Crowd) for pair in pairs[1::2] for step in (*pair.first, *pair.second))
    quiet = without_packets(steps)
    assert not any(isinstance(step, Segment | Leave) for step in quiet)
    assert {type(step) for step in quiet} >= {Open, Close}
    assert drawn("7", both, crowds=True) == drawn("7", both, crowds=True) != drawn("8", both, crowds=True)
    assert all(pair.second == without_packets(pair.second) for pair in pairs)
    assert all(
        pair_of(numbers, both, 1).first == without_packets(pair.first)
        for numbers, pair in zip(made, pairs, strict=True)
    )


LONG = Pair(first=tuple(map(Open, range(9))), second=(Leave(1), *map(Open, range(20, 29))), ports=2)


class Kernel:
    """It differs from the model where all `needed` steps are in a pair, every `every`th time."""

    def __init__(self, *needed: Step, every: int = 1) -> None:
        self.needed, self.every, self.times = set(needed), every, 0

    def __call__(self, pair: Pair) -> None:
        if self.needed <= {*pair.first, *pair.second}:
            self.times += 1
            if self.times % self.every == 0:
                raise TogetherError(f"difference {self.times}")


@pytest.mark.parametrize("every", [1, 3, 7])
def test_pair_is_made_as_short_as_still_differs_now_and_then(every: int) -> None:
    kernel = Kernel(Open(3), Open(7), Open(25), every=every)
    *_, (pair, difference) = shorter(kernel, LONG)
    assert (pair.first, pair.second) == ((Open(3), Open(7)), (Open(25),))
    assert "difference" in str(difference)


def test_pair_of_which_one_history_matters_loses_the_other() -> None:
    *_, (pair, _) = shorter(Kernel(Open(8)), LONG)
    assert (pair.first, pair.second) == ((Open(8),), ())


def test_pair_that_never_differs_again_is_left_as_it_is() -> None:
    assert list(shorter(Kernel(Open(99)), LONG)) == []


def test_tries_end_where_enough_differ_or_can_no_longer() -> None:
    assert str(tries_of(Kernel(Open(3), every=2), LONG)) == f"it differed in {TRIES // 2} of {TRIES} tries"
    assert str(tries_of(Kernel(Open(3)), LONG, enough=2)) == "it differed in 2 of 2 tries"
    assert str(tries_of(Kernel(Open(3), every=1000), LONG, enough=TRIES - 1)) == "it differed in 0 of 2 tries"
    assert str(tries_of(Kernel(Open(3)), LONG, seconds=0)) == "it differed in 1 of 1 tries"


FOUND = SavedPair(
    pair=Pair(
        first=(Open(0), Fill(0, 3)),
        second=(Open(1, Family.IPV6), Attach(1, Program.DROP)),
        protocols=(Protocol.UDP, Protocol.TCP),
        ports=2,
    ),
    difference="in the second history, after step 2, Attach(1, program=Program.DROP), it differs; in 3 of 10",
    sentence="it differs",
    kernel="6.18.44",
    unknown=("K24",),
    seed=7,
    tries=10,
    differed=3,
    frames=("00" * 60,),
)


def test_pair_is_kept_and_read_and_can_leave_a_guest(tmp_path: Path) -> None:
    assert marshal.dumps(FOUND.to_json())
    kept = keep(FOUND.to_json(), tmp_path)
    assert read(tmp_path / kept) == FOUND
    assert (tmp_path / kept).with_suffix(".pcap").stat().st_size == 24 + 16 + 60


def test_case_to_paste_lives_through_the_same_pair() -> None:
    names: dict[str, Any] = {}
    exec(FOUND.as_case(), names)
    seen: dict[str, Any] = {}
    names["test_pair"](lambda **given: seen.update(given))
    assert seen.pop("unknown") == FOUND.unknown
    assert Pair(**{**seen, "first": tuple(seen["first"]), "second": tuple(seen["second"])}) == FOUND.pair


@pytest.mark.parametrize("ports", [1, 2])
def test_last_pair_in_a_console_is_read(tmp_path: Path, ports: int) -> None:
    both = (Protocol.TCP, Protocol.TCP)
    numbers = drawn("longest 24", both, crowds=True)
    lines = [saved.log_line(Protocol.UDP, [1, 2]), log_line(([1], [2]), both, ports), log_line(numbers, both, ports)]
    assert max(map(len, lines)) < LONGEST_LINE
    console = tmp_path / "console.log"
    console.write_text("".join(f"[ 1.0] {line}\n" for line in lines) + "[ 2.1] BUG: a fault\n")
    assert read(console) == SavedPair(pair=pair_of(numbers, both, ports))
    console.write_text("".join(f"[ 1.0] {line}\n" for line in reversed(lines)))
    assert isinstance(read(console), saved.Saved)


def test_longest_pair_fits_into_a_line_of_the_log() -> None:
    """The kernel cuts off what is beyond `PRINTKRB_RECORD_MAX` of one write (kernel/printk/printk.c)."""
    numbers = [NUMBERS_OF_STEPS - 1] * LONGEST
    assert len(log_line((numbers, numbers), (Protocol.UDP, Protocol.UDP), 2)) < LONGEST_LINE


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ports": 3}, "on 3 ports are no pair"),
        ({"ports": 1}, "of udp and tcp on 1 ports are no pair"),
        ({"protocols": ["udp"]}, "are no pair"),
        ({"protocols": ["udp", "sctp"]}, "'sctp' is not a valid Protocol"),
        ({"tries": "x"}, '"tries" is no number'),
        ({"second": [["Dance"]]}, "of the second history, step 1"),
        ({"first": None}, "of the first history, the steps are no list"),
        ({"version": 9}, "version 9"),
    ],
)
def test_file_that_is_no_pair_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    (tmp_path / "pair.json").write_text(json.dumps(FOUND.to_json() | change))
    with pytest.raises(ValueError, match=complaint):
        read(tmp_path / "pair.json")

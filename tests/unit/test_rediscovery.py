# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Faults of a kernel that a campaign finds alone: what is run, and what is made of how the runs end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.campaign.saved import Saved, log_line
from harness.model.layout import Protocol
from harness.model.life.steps import Close, Open
from harness.plugins.kept_histories import keep

sys.path.insert(0, str(Path(__file__).parents[1]))
from kernel_faults import __main__ as command
from kernel_faults.campaign import WITHOUT_FAULT, Rediscovery, rediscover
from kernel_faults.table import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

FAULT = Fault(
    name="a", number=7, file="net/a.c", function="first", breaks=(), operator="leak", old="a", new="b"
)  # fmt: skip
KERNEL = Path("/build")
FAULTY = ("--kernel", "/build", "--append", "reuseport_fault=7")
FOUND = Saved(steps=(Open(0), Close(0)), kernel="6.1.192", sentence="it differs", searched="94 tries, 8 s")
DIFFERENT, ALIKE = (1, "6.1.192: it differs: kept in results/histories/again.json\n"), (0, "")


class Runs:
    """The runs of a campaign and of its replays, which end as told."""

    def __init__(self, root: Path, *ends: tuple[int, str]) -> None:
        file = keep(FOUND.to_json(), root)
        self.file = str(file)
        self._ends = iter([(1, f"no difference in 3 pairs\n6.1.192: it differs: kept in {file}\n"), *ends])
        self.options: list[Sequence[str]] = []

    def __call__(self, *options: str) -> tuple[int, str]:
        self.options.append(options)
        return next(self._ends)


def test_what_a_campaign_finds_is_replayed_without_the_fault_and_with_it(tmp_path: Path) -> None:
    runs = Runs(tmp_path, ALIKE, DIFFERENT)
    found = rediscover(KERNEL, FAULT, seconds=300, root=tmp_path, run=runs)
    assert found == Rediscovery(fault="a", file=runs.file, found="94 tries, 8 s: it differs", length=2)
    assert str(found) == f"a: 94 tries, 8 s: it differs; 2 steps or packets, {runs.file}: replayed"
    replay = ("--replay", str(tmp_path / runs.file))
    assert runs.options == [
        (*FAULTY, "--campaign", "300", "--maxfail", "1"),
        ("--kernel", WITHOUT_FAULT, *replay),
        (*FAULTY, *replay),
    ]


@pytest.mark.parametrize(
    ("ends", "complaint"),
    [
        ([DIFFERENT], f"it fails on {WITHOUT_FAULT}, too"),
        ([(13, "no such kernel")], f"{WITHOUT_FAULT} ended with 13"),
        ([ALIKE, ALIKE], "it does not fail again: the run ended with 0"),
        ([ALIKE, (12, "lost")], "it does not fail again: the run ended with 12"),
    ],
)
def test_replay_that_ends_otherwise_is_no_proof(tmp_path: Path, ends: list[tuple[int, str]], complaint: str) -> None:
    found = rediscover(KERNEL, FAULT, seconds=1, root=tmp_path, run=Runs(tmp_path, *ends))
    assert found.complaint == complaint
    assert str(found).endswith(complaint)


def test_kernel_that_complains_in_the_replay_differs_again(tmp_path: Path) -> None:
    found = rediscover(KERNEL, FAULT, seconds=1, root=tmp_path, run=Runs(tmp_path, ALIKE, (11, "a splat")))
    assert not found.complaint


@pytest.mark.parametrize(
    ("end", "complaint"),
    [((0, "passed"), "nothing was found"), ((11, "a splat"), "nothing was kept, and the run ended with 11")],
)
def test_campaign_that_finds_nothing_is_told(tmp_path: Path, end: tuple[int, str], complaint: str) -> None:
    found = rediscover(KERNEL, FAULT, seconds=1, root=tmp_path, run=lambda *_: end)
    assert found == Rediscovery(fault="a", complaint=complaint)
    assert str(found) == f"a: {complaint}"


def test_history_in_which_the_kernel_died_is_replayed_from_its_console(tmp_path: Path) -> None:
    console = tmp_path / "results/20260101T000000Z/build/console.log"
    console.parent.mkdir(parents=True)
    line = log_line(Protocol.UDP, [1, 2, 3])
    console.write_text(f"[ 1.0] {line}\n[ 2.0] Kernel panic - not syncing: Fatal exception in interrupt\n")
    (tmp_path / "results/latest").symlink_to("20260101T000000Z")
    ends = iter([(1, "the VM was lost"), ALIKE, (1, "the VM was lost")])
    options: list[Sequence[str]] = []

    def run(*given: str) -> tuple[int, str]:
        options.append(given)
        return next(ends)

    found = rediscover(KERNEL, FAULT, seconds=1, root=tmp_path, run=run)
    file = "results/20260101T000000Z/build/console.log"
    assert found == Rediscovery(fault="a", file=file, found="the kernel died", length=3)
    assert options[2] == (*FAULTY, "--replay", str(tmp_path / file))


@pytest.mark.parametrize("options", [["--campaign", "300"], ["--campaign", "0", "growth-loses-program"]])
def test_campaign_needs_a_name_and_a_time(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert command.main(options) == command.EXIT_USAGE
    assert "--campaign takes more than 0 seconds, and the names of the faults to find" in capsys.readouterr().err

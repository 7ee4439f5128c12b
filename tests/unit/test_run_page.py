# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stories on the disk, and the page that shows a run with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.interface.json_form import story_to_json
from harness.interface.steps import Dropped, HelperCalled, PacketArrived, Queued, SocketLookup
from harness.interface.story import Path as StoryPath
from harness.interface.story import SecondRun, Story
from vm.report import html, results, stories
from vm.report.junit import junit
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import CaseResult, KernelResult, RunResult

if TYPE_CHECKING:
    from pathlib import Path


def packet(port: int) -> PacketArrived:
    return PacketArrived(
        protocol="UDP",
        tcp_flags="",
        source="192.0.2.9",
        source_port=port,
        destination="192.0.2.1",
        destination_port=7000,
        length=16,
    )


_STORY = Story(
    second_run=SecondRun(failed_in="call", message="1 < 2"),
    paths=(
        StoryPath(
            start=packet(20000),
            steps=(
                SocketLookup(protocol="UDP", family="IPv4", function="__udp4_lib_lookup"),
                HelperCalled(map_type="sockarray", map_id=17, key=4, result=0, socket="member 4"),
                Queued(queue="receive", socket="member 4", fast_open=False),
            ),
        ),
        StoryPath(start=packet(20001), steps=(Dropped(function="<__udp4_lib_rcv>", reason="NO_SOCKET"),)),
    ),
    missing=("something",),
)

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox'
"""How the picture of a story begins; charts have a class."""

_CASE = "cases/test_reference.py::test_every_member[udp-ipv4-any-sockarray]"


def run_of(*cases: CaseResult) -> RunResult:
    kernel = KernelResult(name="6.1", outcome=KernelOutcome.FAILED, release="6.1.0", cases=list(cases))
    return RunResult(
        command=["pytest", "-k", "<all>"],
        started="2026-01-01T00:00:00+00:00",
        duration=1.5,
        exit=1,
        outcome="failed",
        tools={},
        kernels=[kernel],
    )


def test_story_is_kept_under_its_kernel_as_text_and_as_data(tmp_path: Path) -> None:
    path = stories.keep([("observed", []), ("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    assert path == "6.1/stories/test_reference.py_test_every_member_udp-ipv4-any-sockarray.txt"
    assert stories.read_text(tmp_path / path) == f"{_STORY}\n"
    assert stories.read(tmp_path / path) == _STORY
    assert sorted(file.suffix for file in (tmp_path / "6.1/stories").iterdir()) == [".json", ".txt"]
    assert stories.keep([("observed", [])], _CASE, kernel="6.1", directory=tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 99}'])
def test_data_of_a_story_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(ValueError, match=r"case\.json"):
        stories.read(tmp_path / "case.txt")


def test_names_of_stories_are_short_enough_and_stay_apart() -> None:
    long = [stories.file_name(f"cases/test_x.py::test_y[{'a' * 300}-{number}]") for number in range(2)]
    assert len(set(long)) == 2
    assert all(len(name.encode()) < 255 and "/" not in name for name in long)


def test_page_shows_failures_stories_and_pictures(tmp_path: Path) -> None:
    story = stories.keep([("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    failed = CaseResult(id=_CASE, outcome=CaseOutcome.FAILED, seconds=1, reason="a < b", detail="<diff>", story=story)
    fine = CaseResult(id="cases/test_b.py::test_c", outcome=CaseOutcome.PASSED, seconds=0.25)
    run = run_of(failed, fine)
    results.write(run, tmp_path)
    html.write(results.read(tmp_path), tmp_path)
    page = (tmp_path / html.HTML).read_text()
    assert page.count(PICTURE) == 2
    assert page.count("on the receive queue of <b>member 4</b>") == 1
    assert "<code>&lt;__udp4_lib_rcv&gt;</code>" in page
    assert "the case failed again: 1 &lt; 2" in page
    assert "note: this kernel does not let the witness see something" in page
    assert "&lt;diff&gt;" in page
    assert "<diff>" not in page
    assert f'href="{story}"' in page
    assert "2 results" in page
    assert "cases/test_b.py::test_c" in page


def test_page_does_without_a_story_that_was_deleted(tmp_path: Path) -> None:
    case = CaseResult(id=_CASE, outcome=CaseOutcome.FAILED, seconds=1, story="6.1/stories/gone.txt")
    assert "gone.txt is not there any more" in html.page(run_of(case), tmp_path)


@pytest.mark.parametrize("data", [None, "", json.dumps({**story_to_json(_STORY), "format": 99})])
def test_page_has_only_the_text_if_the_data_are_unreadable(tmp_path: Path, data: str | None) -> None:
    story = stories.keep([("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    assert story is not None
    file = (tmp_path / story).with_suffix(".json")
    file.unlink() if data is None else file.write_text(data)
    case = CaseResult(id=_CASE, outcome=CaseOutcome.FAILED, seconds=1, story=story)
    page = html.page(run_of(case), tmp_path)
    assert "on the receive queue of member 4" in page
    assert PICTURE not in page


def test_page_says_why_there_is_no_witness(tmp_path: Path) -> None:
    told = Story(unavailable="bcc is not installed: run ./bootstrap")
    story = stories.keep([("story", told)], _CASE, kernel="6.1", directory=tmp_path)
    case = CaseResult(id=_CASE, outcome=CaseOutcome.FAILED, seconds=1, story=story)
    assert "there is no witness: bcc is not installed: run ./bootstrap" in html.page(run_of(case), tmp_path)


def test_junit_carries_the_story(tmp_path: Path) -> None:
    story = stories.keep([("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    run = run_of(CaseResult(id=_CASE, outcome=CaseOutcome.FAILED, seconds=1, story=story))
    assert "on the receive queue of member 4" in junit(run, tmp_path)
    assert "receive queue" not in junit(run)

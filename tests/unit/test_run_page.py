# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stories on the disk, and the page that shows a run with them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from vm import html, reports, results, stories
from vm.outcomes import Outcome, Verdict
from vm.picture import LANES, draw, short
from vm.results import CaseResult, KernelResult, RunResult
from vm.stories import Way

if TYPE_CHECKING:
    from pathlib import Path

_STORY = """run again under trace, the case failed again: it is
UDP 192.0.2.9:20000 > 192.0.2.1:7000, len 16
  lookup    UDP over IPv4 looks for a socket (__udp4_lib_lookup)
  helper    bpf_sk_select_reuseport(sockarray 17, key 4) = 0: member 4
  queued    on the receive queue of member 4
UDP 192.0.2.9:20001 > 192.0.2.1:7000, len 16
  dropped   NO_SOCKET in <__udp4_lib_rcv>
note: something"""

_CASE = "cases/test_reference.py::test_every_member[udp-ipv4-any-sockarray]"


def run_of(*cases: CaseResult) -> RunResult:
    kernel = KernelResult(name="6.1", outcome=Verdict.FAILED, release="6.1.0", cases=list(cases))
    return RunResult(
        command=["pytest", "-k", "<all>"],
        started="2026-01-01T00:00:00+00:00",
        duration=1.5,
        exit=1,
        outcome="failed",
        tools={},
        kernels=[kernel],
    )


def test_story_is_kept_under_its_kernel_and_found_again(tmp_path: Path) -> None:
    path = stories.keep([("observed", []), ("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    assert path == "6.1/stories/test_reference.py_test_every_member_udp-ipv4-any-sockarray.txt"
    ways = stories.parse((tmp_path / path).read_text())
    assert [(way.title[:24], len(way.steps)) for way in ways] == [
        ("UDP 192.0.2.9:20000 > 19", 3),
        ("UDP 192.0.2.9:20001 > 19", 1),
    ]
    assert ways[0].steps[-1] == ("queued", "on the receive queue of member 4")
    assert stories.keep([("observed", [])], _CASE, kernel="6.1", directory=tmp_path) is None


def test_names_of_stories_are_short_enough_and_stay_apart() -> None:
    long = [stories.file_name(f"cases/test_x.py::test_y[{'a' * 300}-{number}]") for number in range(2)]
    assert len(set(long)) == 2
    assert all(len(name.encode()) < 255 and "/" not in name for name in long)


def test_page_shows_failures_stories_and_pictures(tmp_path: Path) -> None:
    story = stories.keep([("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    failed = CaseResult(id=_CASE, outcome=Outcome.FAILED, seconds=1, reason="a < b", detail="<diff>", story=story)
    fine = CaseResult(id="cases/test_b.py::test_c", outcome=Outcome.PASSED, seconds=0.25)
    run = run_of(failed, fine)
    results.write(run, tmp_path)
    html.write(results.read(tmp_path), tmp_path)
    page = (tmp_path / html.HTML).read_text()
    assert page.count("<svg") == 2
    assert "&lt;diff&gt;" in page
    assert "<diff>" not in page
    assert f'href="{story}"' in page
    assert "1 more cases" in page


def test_page_does_without_a_story_that_was_deleted(tmp_path: Path) -> None:
    case = CaseResult(id=_CASE, outcome=Outcome.FAILED, seconds=1, story="6.1/stories/gone.txt")
    assert "gone.txt is not there any more" in html.page(run_of(case), tmp_path)


def test_junit_carries_the_story(tmp_path: Path) -> None:
    story = stories.keep([("story", _STORY)], _CASE, kernel="6.1", directory=tmp_path)
    run = run_of(CaseResult(id=_CASE, outcome=Outcome.FAILED, seconds=1, story=story))
    assert "on the receive queue of member 4" in reports.junit(run, tmp_path)
    assert "receive queue" not in reports.junit(run)


def test_picture_is_well_formed_and_has_an_arrow_for_each_change_of_lane() -> None:
    first, second = stories.parse(_STORY)
    drawn = ElementTree.fromstring(str(draw(first)))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert texts == [*LANES, "__udp4_lib_lookup", "key 4: 0", "member 4"]
    assert sum("tip" in path.get("class", "") for path in drawn.iter(f"{space}path")) == 3
    assert ElementTree.fromstring(str(draw(second))).find(f"{space}circle") is not None


@pytest.mark.parametrize(
    ("sentence", "gist"),
    [
        ("SK_PASS, and no socket selected", "SK_PASS, none selected"),
        ("member 3, by the hash: the program left the choice to it", "member 3 by the hash"),
        ("0x80000000, which falls on place 16 of 32", "hash: place 16"),
        ("a sentence that nobody foresaw and no arrow holds", "a sentence that nobody …"),
    ],
)
def test_arrows_have_the_gist_of_a_sentence(sentence: str, gist: str) -> None:
    assert short(sentence) == gist


def test_empty_way_draws_nothing_but_lanes() -> None:
    assert str(draw(Way(title="nothing <here>", steps=()))).count("<path") == len(LANES)

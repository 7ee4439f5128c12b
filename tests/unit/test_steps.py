# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps of a story in all their forms: text, HTML, picture and JSON."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from harness.interface.json_form import (
    start_from_json,
    start_to_json,
    step_from_json,
    step_to_json,
    story_from_json,
    story_to_json,
)
from harness.interface.sentences import heading, sentence, topic
from harness.interface.steps import (
    ACTORS,
    STARTS,
    STEPS,
    CookieAccepted,
    CookieSent,
    Dropped,
    GroupFound,
    HashComputed,
    HelperCalled,
    IcmpSent,
    ListenerClosed,
    Migrated,
    MigrationStarted,
    NoPacket,
    PacketArrived,
    ProgramReturned,
    Queued,
    RequestKept,
    ResetSent,
    SocketLookup,
    SocketSelected,
)
from harness.interface.story import Path, SecondRun, Story
from vm.report.failure import sentence_html
from vm.report.picture import draw, label

if TYPE_CHECKING:
    from harness.interface.steps import Start, Step

_PACKET = PacketArrived(
    protocol="TCP",
    tcp_flags="SYN ACK",
    source="2001:db8::9",
    source_port=20000,
    destination="192.0.2.1",
    destination_port=7000,
    length=16,
)
_GROUP = GroupFound(
    id=7, members=32, closed=0, any_address=True, connected=False, program_type="SK_REUSEPORT", program_id=41
)

_STARTS: dict[Start, str] = {
    _PACKET: "TCP SYN ACK [2001:db8::9]:20000 > 192.0.2.1:7000, len 16",
    replace(_PACKET, protocol="UDP", tcp_flags="", source="192.0.2.9"): "UDP 192.0.2.9:20000 > 192.0.2.1:7000, len 16",
    ListenerClosed(): "a listener closes",
    NoPacket(): "outside of any packet",
}

_STEPS: list[tuple[Step, str, str]] = [
    (
        SocketLookup(protocol="UDP", family="IPv4", function="__udp4_lib_lookup"),
        "UDP over IPv4 looks for a socket (__udp4_lib_lookup)",
        "__udp4_lib_lookup",
    ),
    (
        SocketLookup(protocol="TCP", family="IPv6", function="inet6_lookup_listener"),
        "TCP over IPv6 looks for a listener (inet6_lookup_listener)",
        "inet6_lookup_listener",
    ),
    (_GROUP, "id 7: 32 members bound to any address; program 41 (SK_REUSEPORT) decides", "32 members"),
    (
        replace(_GROUP, members=1, closed=2, any_address=False, connected=True, program_type=None, program_id=0),
        "id 7: 1 member bound to one address and 2 closed, some of them connected; no program is attached",
        "1 member",
    ),
    (
        replace(_GROUP, program_type="classic BPF", program_id=0),
        "id 7: 32 members bound to any address; a classic BPF program decides",
        "32 members",
    ),
    (
        HashComputed(value=0x8000000, position=1, members=32),
        "0x08000000, which points at position 1 of 32",
        "hash: position 1",
    ),
    (
        HelperCalled(map_type="sockarray", map_id=17, key=3, result=0, socket="member 3"),
        "bpf_sk_select_reuseport(sockarray 17, key 3) = 0: member 3",
        "key 3: member 3",
    ),
    (
        HelperCalled(map_type="sockarray", map_id=17, key=40, result=-2, socket=None),
        "bpf_sk_select_reuseport(sockarray 17, key 40) = -2 (ENOENT: No such file or directory)",
        "key 40: -2",
    ),
    (ProgramReturned(verdict="SK_PASS", socket="member 3"), "SK_PASS with member 3", "SK_PASS"),
    (
        ProgramReturned(verdict="SK_PASS", socket=None),
        "SK_PASS, and no socket selected",
        "SK_PASS, none selected",
    ),
    (ProgramReturned(verdict="SK_DROP", socket=None), "not SK_PASS: drop", "SK_DROP"),
    (SocketSelected(socket="member 3", by="program"), "member 3, by the program", "member 3 by the program"),
    (SocketSelected(socket="member 3", by="hash"), "member 3, by the hash", "member 3 by the hash"),
    (
        SocketSelected(socket="member 3", by="hash after program"),
        "member 3, by the hash: the program selected none",
        "member 3 by the hash",
    ),
    (
        SocketSelected(socket="member 3", by="classic program or hash"),
        "member 3, by the position that the program returned or, where there is no such member, by the hash",
        "member 3",
    ),
    (SocketSelected(socket=None, by="drop"), "none: the packet is to be dropped", "none: drop"),
    (
        SocketSelected(socket=None, by="lookup"),
        "none: the lookup goes on with the socket that it had found",
        "none: lookup goes on",
    ),
    (
        Queued(queue="receive", socket="member 3", fast_open=False),
        "on the receive queue of member 3",
        "member 3",
    ),
    (
        Queued(queue="accept", socket="the socket with cookie 1234", fast_open=True),
        "on the accept queue of the socket with cookie 1234, by fast open",
        "the socket with cookie 1234",
    ),
    (RequestKept(socket="member 3"), "kept for member 3, answered with a SYN-ACK", "SYN-ACK by member 3"),
    (CookieSent(), "no request is kept: answered with a SYN cookie", "SYN cookie"),
    (
        CookieAccepted(socket="member 3"),
        "valid in this ACK: a request is made from it for member 3",
        "SYN cookie for member 3",
    ),
    (
        MigrationStarted(state="NEW_SYN_RECV", socket="member 3"),
        "a connection in NEW_SYN_RECV looks for another listener than member 3",
        "member 3 closes",
    ),
    (Migrated(socket="member 4"), "to member 4", "member 4"),
    (
        Migrated(socket="a socket that the kernel has not numbered"),
        "to a socket that the kernel has not numbered",
        "a socket that the kernel has not nu…",
    ),
    (Migrated(socket=None), "to none: it is given up", "none: given up"),
    (Dropped(function="udp_rcv", reason="NO_SOCKET"), "NO_SOCKET in udp_rcv", "NO_SOCKET"),
    (Dropped(function="udp_rcv", reason=None), "in udp_rcv; this kernel gives no reason", "udp_rcv"),
    (
        IcmpSent(type=3, code=3, port_unreachable=True),
        "with ICMP port unreachable",
        "ICMP port unreachable",
    ),
    (IcmpSent(type=3, code=13, port_unreachable=False), "with ICMP type 3 code 13", "ICMP 3/13"),
    (ResetSent(), "with RST", "RST"),
]
_ONLY_STEPS = [step for step, _, _ in _STEPS]
_SVG = "{http://www.w3.org/2000/svg}"


def test_every_kind_is_tried_here() -> None:
    assert {step.kind for step in _ONLY_STEPS} == STEPS.keys()
    assert {start.kind for start in _STARTS} == STARTS.keys()
    assert {step.actor for step in _ONLY_STEPS} == set(ACTORS)


@pytest.mark.parametrize(("start", "text"), _STARTS.items(), ids=_STARTS.values())
def test_start_has_a_heading_and_a_json_form(start: Start, text: str) -> None:
    assert heading(start) == text
    assert start_from_json(json.loads(json.dumps(start_to_json(start)))) == start


@pytest.mark.parametrize(("step", "text"), [(step, text) for step, text, _ in _STEPS])
def test_step_has_a_sentence(step: Step, text: str) -> None:
    assert "".join(sentence(step)) == text
    assert str(Path(start=NoPacket(), steps=(step,))).splitlines()[1] == f"  {topic(step):9} {text}"


@pytest.mark.parametrize("step", _ONLY_STEPS, ids=str)
def test_html_of_a_step_is_its_sentence_with_names_set_apart(step: Step) -> None:
    shown = str(sentence_html(step))
    assert html.unescape(re.sub("</?(b|code)>", "", shown)) == "".join(sentence(step))
    if socket := getattr(step, "socket", None):
        assert f"<b>{socket}</b>" in shown or socket not in "".join(sentence(step))


@pytest.mark.parametrize(("step", "text"), [(step, text) for step, _, text in _STEPS])
def test_picture_of_a_step_has_a_label_at_its_actor(step: Step, text: str) -> None:
    assert label(step) == text
    drawn = ElementTree.fromstring(str(draw(Path(start=NoPacket(), steps=(step,)))))
    *lanes, shown = drawn.iter(f"{_SVG}text")
    assert (shown.text, shown.get("class", "").split()[0]) == (text, topic(step))
    place = next(lane.get("x") for lane in lanes if lane.text == step.actor)
    assert place is not None
    dots = [dot.get("cx") for dot in drawn.iter(f"{_SVG}circle")]
    tips = [path.get("d", "") for path in drawn.iter(f"{_SVG}path") if "tip" in path.get("class", "")]
    assert dots == [place] if step.actor == "wire" else tips[0].startswith(f"M{place} ")


@pytest.mark.parametrize("step", _ONLY_STEPS, ids=str)
def test_step_survives_json(step: Step) -> None:
    data = json.loads(json.dumps(step_to_json(step)))
    assert (data["kind"], data["actor"]) == (step.kind, step.actor)
    assert step_from_json(data) == step


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "teleported"},
        {"kind": None},
        {"socket": 3},
        {"queue": "waiting"},
        {"fast_open": None},
        {"fast_open": 1},
    ],
)
def test_step_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    data = step_to_json(Queued(queue="accept", socket="member 3", fast_open=True))
    with pytest.raises(ValueError, match="not a step of a story"):
        step_from_json({**data, **changes})


def test_story_says_what_it_lacks() -> None:
    story = Story(missing=("the accept queue",), lost=4)
    assert str(story).splitlines() == [
        "nothing arrived for UDP or TCP",
        "note: this kernel does not let the witness see the accept queue",
        "note: 4 earlier events were overwritten before they were read",
    ]


@pytest.mark.parametrize(
    ("second_run", "text"),
    [
        (SecondRun(failed_in=None), "run again under trace, the case passed: the failure is intermittent"),
        (SecondRun(failed_in="call", message="1 == 2"), "run again under trace, the case failed again: 1 == 2"),
        (SecondRun(failed_in="setup", message="EPERM"), "run again under trace, the case failed in its setup: EPERM"),
    ],
)
def test_story_begins_with_the_outcome_of_the_second_run(second_run: SecondRun, text: str) -> None:
    story = Story(paths=(Path(start=_PACKET),), second_run=second_run)
    assert str(story).splitlines() == [text, heading(_PACKET)]


@pytest.mark.parametrize(
    "story",
    [
        Story(),
        Story(unavailable="bcc is not installed: run ./bootstrap"),
        Story(
            paths=tuple(Path(start=start, steps=tuple(_ONLY_STEPS)) for start in _STARTS),
            second_run=SecondRun(failed_in="call", message="AssertionError: é"),
            missing=("drops",),
            lost=1,
        ),
    ],
    ids=["empty", "unavailable", "full"],
)
def test_story_survives_json(story: Story) -> None:
    assert story_from_json(json.loads(json.dumps(story_to_json(story)))) == story


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "a story of format 2; this program reads 1"),
        ({"paths": [{"start": {"kind": "packet"}}]}, "not a step"),
        ({"paths": 3}, "no story"),
        ({"second_run": {"failed_in": "collection", "message": ""}}, "no phase"),
        ({"second_run": {}}, "no story"),
    ],
)
def test_story_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        story_from_json({**story_to_json(Story()), **changes})


def test_label_stands_beside_the_actor_and_inside_the_picture() -> None:
    queued = Queued(queue="accept", socket="member 3", fast_open=False)
    drawn = ElementTree.fromstring(str(draw(Path(start=_PACKET, steps=(CookieAccepted(socket="member 3"), queued)))))
    *_, shown = drawn.iter(f"{_SVG}text")
    (dot,) = drawn.iter(f"{_SVG}circle")
    assert shown.get("class") == "queued left"
    assert int(shown.get("x", "0")) < int(dot.get("cx", "0"))


def test_path_without_steps_draws_nothing_but_lanes() -> None:
    assert str(draw(Path(start=_PACKET))).count("<path") == len(ACTORS)


def test_picture_has_an_arrow_for_each_change_of_actor() -> None:
    steps = (
        SocketLookup(protocol="UDP", family="IPv4", function="__udp4_lib_lookup"),
        _GROUP,
        HashComputed(value=0, position=0, members=32),
        Queued(queue="receive", socket="member <3>", fast_open=False),
    )
    drawn = ElementTree.fromstring(str(draw(Path(start=_PACKET, steps=steps))))
    texts = [text.text for text in drawn.iter(f"{_SVG}text")]
    assert texts == [*ACTORS, "__udp4_lib_lookup", "32 members", "hash: position 0", "member <3>"]
    assert sum("tip" in path.get("class", "") for path in drawn.iter(f"{_SVG}path")) == 3
    assert len(list(drawn.iter(f"{_SVG}circle"))) == 1

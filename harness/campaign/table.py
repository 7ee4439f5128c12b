# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps that histories are made of: each is a number, so that a history is a list of numbers."""

from __future__ import annotations

import struct
from enum import Enum, auto
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from harness.model.layout import Family, Protocol
from harness.model.life.fast_open import Given
from harness.model.life.foreign import Foreign, Kind, LinkConnection
from harness.model.life.segments import (
    ASKED,
    Abort,
    Answer,
    Ask,
    AskFast,
    Cookies,
    EmptyHeir,
    FastOpen,
    FastOpenKeys,
    FastOpenLimit,
    FillHeir,
    Migrate,
    Name,
    NeedCookie,
    Refuse,
)
from harness.model.life.slots import SLOTS
from harness.model.life.sockmap import KEYS, Link, LinkKey, Unlink, UnlinkKey
from harness.model.life.state import Keys, Program
from harness.model.life.steps import (
    FLAGS,
    OTHER_USER,
    PEERS,
    SOCKETS,
    Attach,
    Bind,
    Close,
    Connect,
    Crowd,
    Detach,
    Disconnect,
    Empty,
    Fill,
    Leave,
    Listen,
    Open,
    SetCpu,
    SetReuseport,
    Shutdown,
    Swap,
    Withdraw,
)
from harness.model.uapi import BPF_ANY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.life.steps import Step

_SOCKETS = range(SOCKETS)
_SLOTS = (0, 1, SLOTS - 1, SLOTS)
_FLAGS = (BPF_ANY, BPF_ANY, *FLAGS)

_OPEN = [
    Open(number, family, specific=specific, device=device)
    for family, specific, device, number in product(Family, (False, True), (False, True), _SOCKETS)
]
_ALIKE = [Open(number) for number in _SOCKETS]
"""Sockets of one group. Of listeners, what is left of one that ends goes to another."""
_ON_ADDRESSES = [Open(number, family, specific=True) for number, family in product(_SOCKETS, Family)]
"""Sockets that stay in their groups when they connect: one on the wildcard gets an address, and leaves."""
_CROWD = [
    Crowd(Family.IPV4),
    *(Crowd(family, specific=True) for family in Family for _ in range(2)),
    Crowd(Family.IPV6),
]
_ODDLY = [
    *(Open(number, Family.IPV6, v6only=True) for number in _SOCKETS),
    *(Open(number, family, reuseport=False) for number, family in product(_SOCKETS, Family)),
    *(Open(number, family, user=OTHER_USER) for number, family in product(_SOCKETS, Family)),
    *(
        Open(number, family, reuseport=on, bind=False)
        for on, number, family in product((True, False), _SOCKETS, Family)
    ),
]
_OF_MAPS = (Program.MAP, Program.HASH)
_PROGRAMS = [
    Attach(number, program)
    for program, number in product(Program, _SOCKETS)
    if program not in (*_OF_MAPS, Program.MIGRATE)
]
_PROGRAMS_OF_MAPS = [Attach(number, program) for program, number in product(_OF_MAPS, _SOCKETS)]
_CLOSE = [Close(number) for number in _SOCKETS]
_FILL = [Fill(number, slot, flags) for flags, slot, number in product(_FLAGS, _SLOTS, _SOCKETS)]
_LINK = [Link(number, slot, flags) for flags, slot, number in product(_FLAGS, _SLOTS, _SOCKETS)]
_UNLINK = [Unlink(slot) for slot in _SLOTS]
_LINK_KEY = [LinkKey(number, key, flags) for flags, key, number in product(_FLAGS, range(KEYS + 1), _SOCKETS)]
_UNLINK_KEY = [UnlinkKey(key) for key in range(KEYS + 1)]
_FOREIGN = [Foreign(kind, slot, flags) for flags, slot, kind in product(_FLAGS, range(2), Kind)]
_LINK_CONNECTION = [LinkConnection(slot) for slot in range(2)]
_EMPTY = [Empty(slot) for slot in _SLOTS]
_FILL_HEIR = [FillHeir(number, 0, flags) for flags, number in product(_FLAGS, _SOCKETS)]
_DETACH = [Detach(number) for number in _SOCKETS]
_GIVEN = [given for given in Given if given is not Given.NOTHING]
_FAMILIES = (Family.IPV4, *Family)
_ASK_FAST = [AskFast(family, index, given) for given, index, family in product(_GIVEN, ASKED, _FAMILIES)]
_SWAP = [Swap(), Swap(), Withdraw()]
_CPU = [SetCpu(number, cpu) for cpu, number in product((0, -1, 1), _SOCKETS)]


class Topic(Enum):
    """What steps are about. A history is about some topics alone: so that each gets enough steps in some histories."""

    SOCKETS = auto()
    """Those of one group, as they come and go: no history is without."""
    CROWDS = auto()
    SHAPES = auto()
    PROGRAMS = auto()
    SLOTS = auto()
    MAPS = auto()
    PEERS = auto()
    ODDITIES = auto()
    CPUS = auto()
    REQUESTS = auto()
    COOKIES = auto()
    FAST_OPEN = auto()
    MIGRATION = auto()


class Rule(NamedTuple):
    """Steps of one kind: how many of a hundred or so of a protocol's steps they are, and their topic."""

    share: int
    topic: Topic
    steps: Sequence[Step]


# What stands first is what a history shrinks to. A crowd, which takes long, is at no end: hypothesis likes the ends.
_UDP = (
    Rule(35, Topic.SOCKETS, _ALIKE),
    Rule(60, Topic.SHAPES, _OPEN),
    Rule(8, Topic.CROWDS, _CROWD),
    Rule(40, Topic.PEERS, _ON_ADDRESSES),
    Rule(44, Topic.PEERS, [Connect(number, peer) for number, peer in product(_SOCKETS, PEERS)]),
    Rule(24, Topic.PROGRAMS, _PROGRAMS),
    Rule(22, Topic.PEERS, [Disconnect(number) for number in _SOCKETS]),
    Rule(24, Topic.SOCKETS, _CLOSE),
    Rule(18, Topic.SLOTS, _FILL),
    Rule(10, Topic.MAPS, _LINK),
    Rule(3, Topic.MAPS, _UNLINK),
    Rule(16, Topic.MAPS, _LINK_KEY),
    Rule(3, Topic.MAPS, _UNLINK_KEY),
    Rule(6, Topic.MAPS, _PROGRAMS_OF_MAPS),
    Rule(2, Topic.MAPS, _LINK_CONNECTION),
    Rule(2, Topic.SLOTS, _FOREIGN),
    Rule(16, Topic.ODDITIES, _ODDLY),
    Rule(8, Topic.ODDITIES, [Bind(number, specific) for specific, number in product((False, True), _SOCKETS)]),
    Rule(8, Topic.CPUS, _CPU),
    Rule(4, Topic.PROGRAMS, _DETACH),
    Rule(4, Topic.SLOTS, _EMPTY),
    Rule(3, Topic.SLOTS, _SWAP),
    Rule(3, Topic.ODDITIES, [SetReuseport(number, on) for on, number in product((False, True), _SOCKETS)]),
)
_TCP = (
    Rule(50, Topic.SOCKETS, _ALIKE),
    Rule(24, Topic.SHAPES, _OPEN),
    Rule(8, Topic.CROWDS, _CROWD),
    Rule(12, Topic.SOCKETS, [Leave(number) for number in _SOCKETS]),
    Rule(20, Topic.PROGRAMS, _PROGRAMS),
    Rule(14, Topic.SOCKETS, [Shutdown(number) for number in _SOCKETS]),
    Rule(16, Topic.SOCKETS, [Listen(number) for number in _SOCKETS]),
    Rule(12, Topic.SOCKETS, _CLOSE),
    Rule(14, Topic.SLOTS, _FILL),
    Rule(12, Topic.MAPS, _LINK),
    Rule(2, Topic.MAPS, _UNLINK),
    Rule(24, Topic.MAPS, _LINK_KEY),
    Rule(2, Topic.MAPS, _UNLINK_KEY),
    Rule(10, Topic.MAPS, _PROGRAMS_OF_MAPS),
    Rule(2, Topic.MAPS, _LINK_CONNECTION),
    Rule(2, Topic.SLOTS, _FOREIGN),
    Rule(24, Topic.REQUESTS, [Ask(family, index) for index in ASKED for family in Family]),
    Rule(10, Topic.REQUESTS, [Answer(behind) for behind in range(2)]),
    Rule(10, Topic.REQUESTS, [Abort(behind) for behind in range(2)]),
    Rule(4, Topic.COOKIES, [Cookies(True), Cookies(False)]),
    Rule(3, Topic.MIGRATION, [Migrate(False), Migrate(True)]),
    Rule(4, Topic.MIGRATION, [Refuse(True), Refuse(False)]),
    Rule(20, Topic.MIGRATION, [Attach(number, Program.MIGRATE) for number in _SOCKETS]),
    Rule(20, Topic.MIGRATION, _FILL_HEIR),
    Rule(14, Topic.MIGRATION, [Name(0), Name(0), Name(1)]),
    Rule(1, Topic.MIGRATION, [EmptyHeir(slot) for slot in range(2)]),
    Rule(10, Topic.FAST_OPEN, [FastOpen(number, on) for on in (True, True, False) for number in _SOCKETS]),
    Rule(10, Topic.FAST_OPEN, [FastOpenLimit(number, limit) for limit in (1, 2) for number in _SOCKETS]),
    Rule(8, Topic.FAST_OPEN, [FastOpenKeys(number, keys) for keys in (Keys.ROTATED, *Keys) for number in _SOCKETS]),
    Rule(8, Topic.FAST_OPEN, [NeedCookie(True), NeedCookie(True), NeedCookie(False)]),
    Rule(24, Topic.FAST_OPEN, _ASK_FAST),
    Rule(5, Topic.ODDITIES, [Open(number, Family.IPV6, v6only=True) for number in _SOCKETS]),
    Rule(12, Topic.CPUS, _CPU),
    Rule(4, Topic.PROGRAMS, _DETACH),
    Rule(3, Topic.SLOTS, _SWAP),
    Rule(3, Topic.SLOTS, _EMPTY),
)
_RULES = {Protocol.UDP: _UDP, Protocol.TCP: _TCP}

SHORTEST, LONGEST = 25, 60
"""The fewest and the most steps of a history."""

NUMBERS_OF_STEPS = 1 << 20
"""Each number from 0 to below this is a step (`step_of`)."""

_HEAD = 3
BYTES = _HEAD + 3 * LONGEST
"""Bytes that a history is drawn from: three for its topics and its length, and three for each step."""

_TABLES = {protocol: [rule for rule in rules for _ in range(rule.share)] for protocol, rules in _RULES.items()}
_LEAVABLE = {
    protocol: sum(1 << topic.value for topic in {rule.topic for rule in rules} - {Topic.SOCKETS})
    for protocol, rules in _RULES.items()
}
"""A bit for each topic that a history may leave out."""


def step_of(number: int, protocol: Protocol = Protocol.UDP) -> Step:
    """Return the step that a number is: its remainder names the rule, the rest the step of that rule."""
    table = _TABLES[protocol]
    steps = table[number % len(table)].steps
    return steps[number // len(table) % len(steps)]


def numbers_of(data: bytes, protocol: Protocol) -> list[int]:
    """Return the numbers of a history's steps, as `BYTES` bytes say."""
    left_out, length = struct.unpack_from(">HB", data)
    allowed = _allowed(left_out & _LEAVABLE[protocol], protocol)
    length = SHORTEST + length % (LONGEST - SHORTEST + 1)
    drawn = (int.from_bytes(data[at : at + 3], "big") for at in range(_HEAD, _HEAD + 3 * length, 3))
    size = len(_TABLES[protocol])
    kept = NUMBERS_OF_STEPS // size  # so many numbers of each place
    return [allowed[value % len(allowed)] + value // len(allowed) % kept * size for value in drawn]


@cache
def _allowed(left_out: int, protocol: Protocol) -> list[int]:
    """Return the places of the table whose topics have no bit in `left_out`."""
    return [place for place, rule in enumerate(_TABLES[protocol]) if not left_out >> rule.topic.value & 1]

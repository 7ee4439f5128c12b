# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The steps that histories are made of: each is a number, so that a history is a list of numbers."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from harness.model.layout import Family, Protocol
from harness.model.life.foreign import Foreign, Kind
from harness.model.life.segments import ASKED, Abort, Answer, Ask, Cookies, FastOpen, Migrate, Refuse
from harness.model.life.slots import SLOTS
from harness.model.life.sockmap import Link, Unlink
from harness.model.life.state import Program
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.life.steps import Step

_SOCKETS = range(SOCKETS)

_OPEN = [
    Open(number, family, specific=specific, device=device)
    for family, specific, device, number in product(Family, (False, True), (False, True), _SOCKETS)
]
_ALIKE = [Open(number) for number in _SOCKETS]
"""Listeners of one group: what is left of one that ends goes to another."""
_ODDLY = [
    *(Open(number, Family.IPV6, v6only=True) for number in _SOCKETS),
    *(Open(number, family, reuseport=False) for number, family in product(_SOCKETS, Family)),
    *(Open(number, family, user=OTHER_USER) for number, family in product(_SOCKETS, Family)),
    *(Open(number, family, bind=False) for number, family in product(_SOCKETS, Family)),
]
_PROGRAMS = [
    Attach(number, program) for program, number in product(Program, _SOCKETS) if program is not Program.MIGRATE
]
_CLOSE = [Close(number) for number in _SOCKETS]
_FILL = [Fill(number, slot, flags) for flags, slot, number in product(FLAGS, range(SLOTS + 1), _SOCKETS)]
_LINK = [Link(number, slot, flags) for flags, slot, number in product(FLAGS, range(SLOTS + 1), _SOCKETS)]
_UNLINK = [Unlink(slot) for slot in range(SLOTS + 1)]
_FOREIGN = [Foreign(kind, slot, flags) for flags, slot, kind in product(FLAGS, range(2), Kind)]
_EMPTY = [Empty(slot) for slot in range(SLOTS + 1)]
_DETACH = [Detach(number) for number in _SOCKETS]
_SWAP = [Swap(), Swap(), Withdraw()]
_CPU = [SetCpu(number, cpu) for cpu, number in product((0, -1, 1), _SOCKETS)]

# How many of 256 steps are of each rule. What stands first is what a history shrinks to. A crowd, which takes long, is
# at no end: hypothesis likes the ends.
_UDP: tuple[tuple[int, Sequence[Step]], ...] = (
    (69, _OPEN),
    (1, [Crowd(family) for family in Family]),
    (44, [Connect(number, peer) for number, peer in product(_SOCKETS, PEERS)]),
    (24, _PROGRAMS),
    (22, [Disconnect(number) for number in _SOCKETS]),
    (24, _CLOSE),
    (18, _FILL),
    (5, _LINK),
    (1, _UNLINK),
    (2, _FOREIGN),
    (16, _ODDLY),
    (8, [Bind(number, specific) for specific, number in product((False, True), _SOCKETS)]),
    (8, _CPU),
    (4, _DETACH),
    (4, _EMPTY),
    (3, _SWAP),
    (3, [SetReuseport(number, on) for on, number in product((False, True), _SOCKETS)]),
)
_TCP: tuple[tuple[int, Sequence[Step]], ...] = (
    (24, _OPEN),
    (26, _ALIKE),
    (1, [Crowd(family) for family in Family]),
    (12, [Leave(number) for number in _SOCKETS]),
    (24, _PROGRAMS),
    (20, [Shutdown(number) for number in _SOCKETS]),
    (20, [Listen(number) for number in _SOCKETS]),
    (20, _CLOSE),
    (14, _FILL),
    (4, _LINK),
    (2, _FOREIGN),
    (24, [Ask(family, index) for index in ASKED for family in Family]),
    (10, [Answer(behind) for behind in range(2)]),
    (10, [Abort(behind) for behind in range(2)]),
    (4, [Cookies(True), Cookies(False)]),
    (3, [Migrate(False), Migrate(True)]),
    (3, [Refuse(True), Refuse(False)]),
    (3, [Attach(number, Program.MIGRATE) for number in _SOCKETS]),
    (4, [FastOpen(number, on) for on in (True, False) for number in _SOCKETS]),
    (5, [Open(number, Family.IPV6, v6only=True) for number in _SOCKETS]),
    (12, _CPU),
    (4, _DETACH),
    (3, _SWAP),
    (3, _EMPTY),
    (1, _UNLINK),
)
SHORTEST, LONGEST = 25, 60
"""Steps of a history."""

NUMBERS_OF_STEPS = 1 << 20
"""Each number below is a step."""

_TABLES = {
    protocol: [steps for share, steps in rules for _ in range(share)]
    for protocol, rules in ((Protocol.UDP, _UDP), (Protocol.TCP, _TCP))
}


def step_of(number: int, protocol: Protocol = Protocol.UDP) -> Step:
    """Return the step that a number is: its remainder names the rule, the rest the step of that rule."""
    table = _TABLES[protocol]
    steps = table[number % len(table)]
    return steps[number // len(table) % len(steps)]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories on one wire and one port, one after the other, and what they reached."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.campaign.asking import Asking
from harness.campaign.hashes import Hashes
from harness.campaign.leftover import is_taken
from harness.campaign.life import DifferenceError, Life
from harness.campaign.puppets import Puppets
from harness.model.layout import Protocol
from harness.model.life.state import HISTORY_PORT, Program, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.campaign.leftover import SocketsInUse
    from harness.loader import program as loaded
    from harness.loader.maps import Map
    from harness.model.life.behaviour import Behaviour
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire


_PORTS = 20
"""From a port that a history has left taken to the next one: a history uses three, and so does one beside it."""


def sockarrays_of(programs: Mapping[Program, loaded.Program]) -> Sequence[Map]:
    """Return two sockarrays for the program that selects from such; the first is in its outer map."""
    program = programs[Program.SLOT]
    made = [inner for inner in (program.inner_for_group() for _ in range(2)) if inner is not None]
    program.insert_inner_map(made[0])
    return made


class Run:
    """Runs histories on one wire, and counts what they reached."""

    def __init__(
        self,
        wire: Wire,
        programs: Mapping[Program, loaded.Program],
        behaviour: Behaviour,
        *,
        protocol: Protocol = Protocol.UDP,
        migrates: bool = False,
        port: int = HISTORY_PORT,
        sockarrays: Sequence[Map],
        in_use: SocketsInUse | None = None,
    ) -> None:
        """`sockarrays` are the two of `sockarrays_of`, which all runs that share the programs share.

        `in_use`: what the namespace has, if no other history is in it.
        """
        self.wire, self._programs, self._behaviour = wire, programs, behaviour
        self.protocol, self._migrates, self.port = protocol, migrates, port
        self._sockarrays, self._in_use = sockarrays, in_use
        self.taken: Counter[str] = Counter()
        """How often each transition of the model was taken."""
        self.refused: Counter[str] = Counter()
        """How often a call was refused, by its step and errno."""
        self.steps = self.packets = self.histories = 0
        self.seconds = 0.0
        """Spent in histories."""

    def run(self, history: Iterable[Step]) -> None:
        """Run a history; DifferenceError says where the kernel and the model part."""
        with self.begin() as life:
            for place, step in enumerate(history, 1):
                if life.take(place, step):
                    life.look(place, step)

    @contextmanager
    def begin(self) -> Iterator[Life]:
        """Begin a history, without any socket; at the end every socket of it is closed, and what it did is counted.

        DifferenceError says what is left of it then.
        """
        hashes = Hashes()
        world = World(
            self._behaviour,
            self.protocol,
            self._migrates,
            port=self.port,
            can_migrate=self._migrates,
            hash_of=hashes.lowest,
            has_sockmap=Program.MAP in self._programs and Program.HASH in self._programs,
            has_migrate=Program.MIGRATE in self._programs and self.protocol is Protocol.TCP,
        )
        life = Life(self.wire, world, self.puppets(), hashes, Asking(self.wire, self.port))
        self.histories += 1
        if self._in_use is not None:
            self._in_use.begin()
        started = time.monotonic()
        try:
            yield life
        finally:
            life.close()
            self.taken += world.taken
            self.refused += life.refused
            self.steps += life.steps
            self.packets += life.packets
            left = self._left(life, world)
            self.seconds += time.monotonic() - started
        if left and life.last is not None:
            raise DifferenceError(*life.last, left)

    def _left(self, life: Life, world: World) -> str:
        """Say what is left of a history whose sockets are closed, or nothing; another port is the next one's, then."""
        if is_taken(self.protocol, self.port):
            self.port += _PORTS
            life.forget()
            if self._in_use is not None:
                self._in_use.forget()
            return "all sockets are closed, and their port is still taken"
        if self._in_use is None or not world.taken["sk_select_reuseport: a connection"]:
            return ""
        kept = self._in_use.kept()
        return f"all sockets are closed, and the kernel keeps {kept} of them" if kept else ""

    def puppets(self) -> Puppets:
        """Return what does steps to sockets on the kernel; the caller closes it."""
        return Puppets(
            self.wire, self._programs, self._sockarrays, self.protocol, migrates=self._migrates, port=self.port
        )

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories on one wire and one port, one after the other, and what they reached."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.campaign.asking import Asking
from harness.campaign.hashes import Hashes
from harness.campaign.life import Life
from harness.campaign.puppets import Puppets
from harness.model.layout import Protocol
from harness.model.life.state import HISTORY_PORT, Program, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.loader import program as loaded
    from harness.loader.maps import Map
    from harness.model.life.behaviour import Behaviour
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire


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
    ) -> None:
        """`sockarrays` are the two of `sockarrays_of`, which all runs that share the programs share."""
        self.wire, self._programs, self._behaviour = wire, programs, behaviour
        self.protocol, self._migrates, self.port = protocol, migrates, port
        self._sockarrays = sockarrays
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
        """Begin a history, without any socket; at the end every socket of it is closed, and what it did is counted."""
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
        started = time.monotonic()
        try:
            yield life
        finally:
            life.close()
            self.taken += world.taken
            self.refused += life.refused
            self.steps += life.steps
            self.packets += life.packets
            self.seconds += time.monotonic() - started

    def puppets(self) -> Puppets:
        """Return what does steps to sockets on the kernel; the caller closes it."""
        return Puppets(
            self.wire, self._programs, self._sockarrays, self.protocol, migrates=self._migrates, port=self.port
        )

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories at once, on two CPUs.

On two ports, what one history does is nothing to the other: the model holds for both, whatever the order in which their
steps fall together. On one port nobody knows the order. What must hold in every one is asserted then: nobody gets a
packet twice, nor one that was answered by an error, and as many are answered as the kernel counts.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.campaign.beside import Beside
from harness.campaign.difference import Difference
from harness.campaign.life import DifferenceError
from harness.campaign.strangers import Strangers
from harness.campaign.strategy import LONGEST, SHORTEST
from harness.campaign.table import NUMBERS_OF_STEPS, step_of
from harness.model.life.segments import Cookies, Migrate, Segment
from harness.model.life.steps import Close, Crowd, Leave, OnSocket, Open
from harness.model.life.text import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.campaign.history import Run
    from harness.campaign.puppets import Puppets
    from harness.model.layout import Protocol
    from harness.model.life.steps import Step


class TogetherError(Difference):
    """Two histories at once did something that neither may."""


def drawn(source: random.Random, protocol: Protocol, *, crowds: bool) -> tuple[Step, ...]:
    """Return a history that changes nothing for the whole machine: no setting of TCP.

    `crowds`: it may open a crowd of sockets, which takes long.
    """
    numbers = [source.randrange(NUMBERS_OF_STEPS) for _ in range(source.randint(SHORTEST, LONGEST))]
    steps = (step_of(number, protocol) for number in numbers)
    return tuple(
        step for step in steps if not isinstance(step, Cookies | Migrate) and (crowds or not isinstance(step, Crowd))
    )


def without_packets(history: Iterable[Step]) -> tuple[Step, ...]:
    """Return the history without what takes the wire, which the other one uses."""
    quiet = (Close(step.socket) if isinstance(step, Leave) else step for step in history)
    return tuple(step for step in quiet if not isinstance(step, Segment))


@dataclass(frozen=True, kw_only=True)
class Together:
    """Two runs, each with programs of its own."""

    first: Run
    second: Run
    cpu: int
    """Of the second one; the first has the wire's."""
    seed: str
    crowds: bool
    """Whether histories may open crowds of sockets."""

    def on_two_ports(self, number: int) -> None:
        """Live through a history on the first's port, looking after each step, beside others on the second's.

        These are looked at as the last of them ends. TogetherError says where the kernel and the model part.
        """
        history = self._drawn(self._source(number, 0), self.first)
        beside = Beside(lambda is_over: self._histories(number, is_over), cpu=self.cpu)
        failed: DifferenceError | None = None
        try:
            self.first.run(history)
        except DifferenceError as error:
            failed = error
        finally:
            said = beside.end()
        self._add(said)
        if failed is not None:
            raise self._error(number, str(failed), history[: failed.place])
        if said["difference"]:
            raise self._error(number, f"of the other: {said['difference']}", history)

    def on_one_port(self, number: int) -> None:
        """Live through a history beside others on the same port, with packets to it; both have the same protocol."""
        source = self._source(number, 0)
        history = self._drawn(source, self.first)
        strangers = Strangers(self.first.wire, self.first.protocol, self.first.port, source)
        beside = Beside(lambda is_over: self._on_the_same_port(number, is_over), cpu=self.cpu)
        held: Counter[int] = Counter()
        try:
            puppets = self.first.puppets()
            try:
                for step in without_packets(history):
                    _do(puppets, step)
                    strangers.send()
                    held.update(puppets.held())
            finally:
                puppets.close()
        finally:
            said = beside.end()
        self._add(said)
        held.update(said["held"])
        self.first.histories += 1
        self.first.packets += strangers.sent
        if sentence := strangers.differs(held):
            raise self._error(number, sentence, history)

    def _histories(self, number: int, is_over: Callable[[], bool]) -> dict[str, Any]:
        """Live through one history after another in the child; look at the last one once the wire is free."""
        source, run = self._source(number, 1), self.second
        here = self.first.wire.settings.cpu
        difference = ""
        while True:
            history = without_packets(self._drawn(source, run))
            with run.begin() as life:
                try:
                    place, step = 0, history[0]
                    for place, step in enumerate(history, 1):
                        life.take(place, step)
                    if not is_over():
                        continue
                    os.sched_setaffinity(0, {here})
                    run.wire.send(())
                    life.look(place, step)
                except DifferenceError as error:
                    difference = f"{error}\n{_spelled(history[: error.place])}"
            if difference or is_over():
                break
        return {"difference": difference, "histories": run.histories, "steps": run.steps, "held": []}

    def _on_the_same_port(self, number: int, is_over: Callable[[], bool]) -> dict[str, Any]:
        """Live through one history after another in the child, taking what their sockets hold."""
        source, run = self._source(number, 1), self.second
        held: list[int] = []
        steps = histories = 0
        while not histories or not is_over():
            puppets = run.puppets()
            try:
                for step in without_packets(self._drawn(source, run)):
                    _do(puppets, step)
                    steps += 1
                    held += puppets.held()
            finally:
                puppets.close()
            histories += 1
        return {"difference": "", "histories": histories, "steps": steps, "held": held}

    def _drawn(self, source: random.Random, run: Run) -> tuple[Step, ...]:
        return drawn(source, run.protocol, crowds=self.crowds)

    def _source(self, number: int, which: int) -> random.Random:
        return random.Random(f"{self.seed} {number} {which}")  # not for secrets

    def _add(self, said: dict[str, Any]) -> None:
        self.first.histories += said["histories"]
        self.first.steps += said["steps"]

    def _error(self, number: int, sentence: str, history: Sequence[Step]) -> TogetherError:
        return TogetherError(f"pair {number} of seed {self.seed!r}: {sentence}\nbeside it:\n{_spelled(history)}")


def _do(puppets: Puppets, step: Step) -> None:
    """Do a step, if it opens a socket that is not there or is about one that is, whatever the kernel answers.

    A step for which the kernel has no program is left out.
    """
    if puppets.lacks(step):
        return
    if isinstance(step, Open) and puppets.has(step.socket):
        return
    if isinstance(step, OnSocket) and not puppets.has(step.socket):
        return
    puppets.do(step)


def _spelled(history: Iterable[Step]) -> str:
    return "\n".join(f"    {spelled(step)}," for step in history)

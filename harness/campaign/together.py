# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories at once, on two CPUs.

On two ports, what one history does is nothing to the other: the model holds for both, whatever the order in which their
steps fall together. On one port nobody knows the order. What must hold in every one is asserted then: nobody gets a
packet twice, nor one that was answered by an error, and as many are answered as the kernel counts.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.campaign import probes
from harness.campaign.beside import Beside
from harness.campaign.difference import Difference
from harness.campaign.life import DifferenceError
from harness.campaign.pair import without_packets
from harness.campaign.strangers import Strangers
from harness.model.life.steps import OnSocket, Open

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from harness.campaign.history import Run
    from harness.campaign.pair import Pair
    from harness.campaign.puppets import Puppets
    from harness.model.life.steps import Step


class TogetherError(Difference):
    """Two histories at once did something that neither may."""

    def __init__(self, sentence: str, *, shown: str = "", of_second: bool = False, data: Sequence[bytes] = ()) -> None:
        """`shown` is the sentence with the step that it is about, `data` are the frames of the packet."""
        super().__init__(f"{'in the second history, ' if of_second else ''}{shown or sentence}")
        self.sentence, self.of_second, self.frames = sentence, of_second, tuple(data)


@dataclass(frozen=True, kw_only=True)
class Together:
    """Two runs, each with programs of its own."""

    first: Run
    second: Run
    cpu: int
    """Of the second one; the first has the wire's."""
    source: random.Random
    """Of the packets on one port."""

    def run(self, pair: Pair) -> None:
        """Live through a pair of the runs' protocols and ports; TogetherError says what may not be."""
        (self._on_one_port if pair.ports == 1 else self._on_two_ports)(pair.first, without_packets(pair.second))

    def _on_two_ports(self, history: Sequence[Step], other: Sequence[Step]) -> None:
        """Live through a history on the first's port, looking after each step, beside the other on the second's.

        The other one is looked at as it ends for the last time.
        """
        beside = Beside(lambda is_over: self._again_and_again(other, is_over), cpu=self.cpu)
        failed: DifferenceError | None = None
        try:
            self.first.run(history)
        except DifferenceError as error:
            failed = error
        finally:
            said = beside.end()
        self._add(said)
        if failed is not None:
            raise TogetherError(failed.sentence, shown=str(failed), data=_frames(self.first, failed))
        if said["sentence"]:
            data = [bytes.fromhex(frame) for frame in said["frames"]]
            raise TogetherError(said["sentence"], shown=said["shown"], of_second=True, data=data)

    def _on_one_port(self, history: Sequence[Step], other: Sequence[Step]) -> None:
        """Live through a history beside the other on the same port, with packets to it; both have the same protocol."""
        strangers = Strangers(self.first.wire, self.first.protocol, self.first.port, self.source)
        beside = Beside(lambda is_over: self._on_the_same_port(other, is_over), cpu=self.cpu)
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
            raise TogetherError(sentence, data=strangers.frames)

    def _again_and_again(self, history: Sequence[Step], is_over: Callable[[], bool]) -> dict[str, Any]:
        """Live through a history over and over in the child; look at the last one once the wire is free."""
        run, here = self.second, self.first.wire.settings.cpu
        before = run.histories, run.steps
        found: DifferenceError | None = None
        while found is None:
            try:
                with run.begin() as life:
                    for place, step in enumerate(history, 1):
                        life.take(place, step)
                    if not is_over():
                        continue
                    os.sched_setaffinity(0, {here})
                    run.wire.send(())
                    if history:
                        life.look(len(history), history[-1])
            except DifferenceError as error:
                found = error
            if is_over():
                break
        said = {"histories": run.histories - before[0], "steps": run.steps - before[1]}
        if found is None:
            return said | {"sentence": ""}
        data = [frame.hex() for frame in _frames(run, found)]
        return said | {"sentence": found.sentence, "shown": str(found), "frames": data}

    def _on_the_same_port(self, history: Sequence[Step], is_over: Callable[[], bool]) -> dict[str, Any]:
        """Live through a history over and over in the child, taking what its sockets hold."""
        held: list[int] = []
        steps = histories = 0
        while not histories or not is_over():
            puppets = self.second.puppets()
            try:
                for step in history:
                    _do(puppets, step)
                    steps += 1
                    held += puppets.held()
            finally:
                puppets.close()
            histories += 1
        return {"histories": histories, "steps": steps, "held": held}

    def _add(self, said: dict[str, Any]) -> None:
        self.first.histories += said["histories"]
        self.first.steps += said["steps"]


def _frames(run: Run, error: DifferenceError) -> list[bytes]:
    return [] if error.probe is None else [probes.frame(error.probe, run.protocol, run.port)]


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

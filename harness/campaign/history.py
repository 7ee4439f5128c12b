# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One history: each step in the model and on the kernel, and after it all that can be seen, compared."""

from __future__ import annotations

import errno
import time
from collections import Counter
from typing import TYPE_CHECKING

from harness.campaign import connections, probes
from harness.campaign.difference import Difference
from harness.campaign.hashes import Hashes
from harness.campaign.puppets import Puppets
from harness.campaign.waiting import Waiting
from harness.model.layout import Protocol
from harness.model.life.sockets import receive
from harness.model.life.state import Program, State, World
from harness.model.life.steps import Leave
from harness.model.life.text import spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.campaign.probes import Probes
    from harness.loader import program as loaded
    from harness.model.abi import Result
    from harness.model.life.behaviour import Behaviour
    from harness.model.life.lookup import Datagram
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire


class DifferenceError(Difference):
    """The kernel did something else than the model in a step of a history."""

    def __init__(self, place: int, step: Step, sentence: str, probe: Datagram | None = None) -> None:
        super().__init__(f"after step {place}, {spelled(step)}, {sentence}")
        self.place, self.step, self.sentence, self.probe = place, step, sentence, probe


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
    ) -> None:
        self._wire, self._programs, self._behaviour = wire, programs, behaviour
        self.protocol, self._migrates = protocol, migrates
        made = [programs[Program.SLOT].inner_for_group() for _ in range(2)]
        self._sockarrays = [inner for inner in made if inner is not None]
        programs[Program.SLOT].insert_inner_map(self._sockarrays[0])
        self.taken: Counter[str] = Counter()
        """How often each transition of the model was taken."""
        self.refused: Counter[str] = Counter()
        """How often a call was refused, by its step and errno."""
        self.steps = self.packets = self.histories = 0
        self.seconds = 0.0
        """Spent in histories."""

    def run(self, history: Iterable[Step]) -> None:
        """Run a history; DifferenceError says where the kernel and the model part."""
        world = World(self._behaviour, self.protocol, self._migrates)
        puppets, hashes = Puppets(self._wire, self._programs, self._sockarrays, self.protocol), Hashes()
        self.histories += 1
        puppets.results()  # what was counted in a history that ended early
        started = time.monotonic()
        try:
            for place, step in enumerate(history, 1):
                waiting = self._wait(world, hashes, step)
                answer = step.apply(world)
                if answer is None:
                    continue
                self.steps += 1
                observed = puppets.do(step)
                if waiting is not None and (sentence := waiting.differs(world, puppets)):
                    raise DifferenceError(place, step, sentence)
                if observed != answer:
                    raise DifferenceError(place, step, f"the call returns {_errno(observed)}, not {_errno(answer)}")
                if answer:
                    self.refused[f"{type(step).__name__}: {errno.errorcode[answer]}"] += 1
                self._look(world, puppets, hashes, place, step)
        finally:
            puppets.close()
            self.taken += world.taken
            self.seconds += time.monotonic() - started

    def _wait(self, world: World, hashes: Hashes, step: Step) -> Waiting | None:
        """Open connections that wait, if the step is one that leaves such."""
        leaving = world.sockets.get(step.socket) if isinstance(step, Leave) else None
        if leaving is None or leaving.state is not State.LISTEN:
            return None
        return Waiting(self._wire, world, hashes, leaving)

    def _look(self, world: World, puppets: Puppets, hashes: Hashes, place: int, step: Step) -> None:
        wanted = probes.plan(world)
        self.packets += len(wanted.by_number)
        answered, held = self._send(puppets, wanted)
        for probe in wanted.by_number.values():
            holders = held.pop(probe, [])
            if len(holders) > 1:
                raise DifferenceError(place, step, f"{probe} is held by sockets {holders}", probe)
            receiver = holders[0] if holders else None
            expected = hashes.check(world, probe, receiver)
            if receiver not in expected:
                raise DifferenceError(
                    place, step, f"{_words(probe)} reaches {_socket(receiver)}, not {_any(expected)}", probe
                )
            if (receiver is None) != (probe in answered):
                raise DifferenceError(
                    place, step, f"{_words(probe)} is {'' if probe in answered else 'not '}answered by an error", probe
                )
            if receiver is not None:
                receive(world, world.sockets[receiver])
        if held:
            raise DifferenceError(place, step, f"packets of earlier steps arrive: {held}")
        if (counted := puppets.results()) != hashes.results:
            raise DifferenceError(place, step, f"programs count {_counts(counted)}, not {_counts(hashes.results)}")
        hashes.results.clear()
        if world.taken["reuseport_array_update"]:
            filled = {index: made.number for index, made in world.slots.items()}
            if (seen := puppets.slots()) != filled:
                raise DifferenceError(place, step, f"the sockarray holds {seen}, not {filled}")

    def _send(self, puppets: Puppets, wanted: Probes) -> tuple[set[Datagram], dict[Datagram, list[int]]]:
        """Return the probes that were answered by an error, and those that arrived with the sockets that hold them."""
        if self.protocol is Protocol.UDP:
            answered = probes.send(self._wire, wanted)
            numbered = puppets.received()
            return answered, {wanted.by_number[number]: holders for number, holders in numbered.items()}
        answered = connections.open_all(self._wire, wanted)
        accepted = puppets.accepted()
        ports = {(probe.family, probe.source_port): probe for probe in wanted.by_number.values()}
        return answered, {ports[port]: holders for port, holders in accepted.items()}


def _words(probe: Datagram) -> str:
    host = "" if probe.from_peer else "another host's "
    return f"a packet over {probe.family} from {host}port {probe.source_port} for index {probe.index}"


def _counts(results: Counter[Result]) -> str:
    return ", ".join(f"{result.name} {count}" for result, count in sorted(results.items())) or "nothing"


def _socket(number: int | None) -> str:
    return "no socket" if number is None else f"socket {number}"


def _any(numbers: Iterable[int | None]) -> str:
    return " or ".join(sorted(map(_socket, numbers)))


def _errno(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "no error"

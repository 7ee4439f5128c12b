# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One history under way: each step in the model and on the kernel, and after it all that can be seen, compared."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING

from harness.campaign import connections, probes
from harness.campaign.difference import Difference
from harness.campaign.hashes import SILENT
from harness.campaign.waiting import Waiting
from harness.model.layout import Protocol
from harness.model.life import requests
from harness.model.life.fast_open import try_fast_open
from harness.model.life.segments import Segment
from harness.model.life.slots import ENOTSUPP
from harness.model.life.sockets import receive
from harness.model.life.state import HEIRS, State
from harness.model.life.steps import Leave
from harness.model.life.text import spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.campaign.asking import Asking
    from harness.campaign.hashes import Hashes
    from harness.campaign.probes import Probes
    from harness.campaign.puppets import Puppets
    from harness.loader.maps import Map
    from harness.model.abi import Result
    from harness.model.life.datagram import Datagram
    from harness.model.life.fast_open import FastOpened
    from harness.model.life.state import Socket, World
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire


class DifferenceError(Difference):
    """The kernel did something else than the model in a step of a history."""

    def __init__(self, place: int, step: Step, sentence: str, probe: Datagram | None = None) -> None:
        super().__init__(f"after step {place}, {spelled(step)}, {sentence}")
        self.place, self.step, self.sentence, self.probe = place, step, sentence, probe


class Life:
    """A history under way. DifferenceError is raised where the kernel and the model part."""

    def __init__(self, wire: Wire, world: World, puppets: Puppets, hashes: Hashes, asking: Asking) -> None:
        self._wire, self._world, self._puppets, self._hashes, self._asking = wire, world, puppets, hashes, asking
        self.refused: Counter[str] = Counter()
        """How often a call was refused, by its step and errno."""
        self.steps = self.packets = 0
        self.last: tuple[int, Step] | None = None
        """The last step that was taken, and its place."""
        puppets.forget_results()

    def close(self) -> None:
        """Close every socket, and have the kernel forget connections whose ACK did not come."""
        self._puppets.close()
        self._asking.close()

    def forget(self) -> None:
        """Empty the maps, once a socket is found that the kernel did not let go of."""
        self._puppets.maps.empty()

    def take(self, place: int, step: Step) -> bool:
        """Do a step in the model and on the kernel; return whether it had a meaning where it stands."""
        world = self._world
        waiting = self._wait(step)
        segment = step.packet(world) if isinstance(step, Segment) else None
        answer = step.apply(world)
        if answer is None:
            return False
        self.steps += 1
        self.last = place, step
        if isinstance(step, Segment) and segment is not None:
            if sentence := self._segment(step, segment):
                raise DifferenceError(place, step, sentence, segment)
            return True
        observed = self._puppets.do(step)
        if waiting is not None and (sentence := waiting.differs(world, self._puppets)):
            raise DifferenceError(place, step, sentence)
        if observed != answer:
            raise DifferenceError(place, step, f"the call returns {_errno(observed)}, not {_errno(answer)}")
        if answer:
            self.refused[f"{type(step).__name__}: {_errno(answer)}"] += 1
        return True

    def _wait(self, step: Step) -> Waiting | None:
        """Open connections that wait, if the step is one that leaves such."""
        leaving = self._world.sockets.get(step.socket) if isinstance(step, Leave) else None
        if leaving is None or leaving.state is not State.LISTEN:
            return None
        return Waiting(self._wire, self._world, self._hashes, leaving)

    def _segment(self, step: Segment, packet: Datagram) -> str:
        """Send a segment, as the model has done; say what it leads to that is not expected, or nothing."""
        expected, self._world.seen = self._world.seen, None
        assert expected is not None, "a segment leads to something, or the step does nothing"
        self.packets += 1
        self._hashes.count(self._world.counted.elements())
        self._world.counted.clear()
        return self._asking.differs(step, packet, expected, self._puppets)

    def look(self, place: int, step: Step) -> None:
        """Send packets of every kind, and compare all that can be seen with the model, as it is after that step."""
        world, puppets, hashes = self._world, self._puppets, self._hashes
        wanted = probes.plan(world)
        self.packets += len(wanted.by_number)
        answered, held, fast_opened = self._send(wanted)
        pending: Counter[int] = Counter()  # connections of fast open, by who holds them
        for probe in wanted.by_number.values():
            holders = held.pop(probe, [])
            if len(holders) > 1:
                raise DifferenceError(place, step, f"{probe} is held by sockets {holders}", probe)
            receiver = holders[0] if holders else None
            if receiver is None and probe not in answered and world.protocol is Protocol.TCP:
                receiver = SILENT
            expected = hashes.check(world, probe, receiver)
            if receiver not in expected:
                raise DifferenceError(
                    place, step, f"{_words(probe)} reaches {_socket(receiver)}, not {_any(expected)}", probe
                )
            if (receiver is None) != (probe in answered):
                raise DifferenceError(
                    place, step, f"{_words(probe)} is {'' if probe in answered else 'not '}answered by an error", probe
                )
            if receiver is not None and receiver != SILENT:
                sentence = self._received(world.sockets[receiver], probe, fast_opened.get(probe), pending)
                if sentence:
                    raise DifferenceError(place, step, sentence, probe)
        if held:
            raise DifferenceError(place, step, f"packets of earlier steps arrive: {held}")
        if (counted := puppets.results()) not in hashes.totals:
            totals = " or ".join(map(_counts, hashes.totals))
            raise DifferenceError(place, step, f"programs count {_counts(counted)}, not {totals}")
        hashes.forget_totals()
        for what, held_map, filled in self._filled():
            if (seen := puppets.maps.held(held_map)) != filled:
                raise DifferenceError(place, step, f"the {what} holds {seen}, not {filled}")

    def _filled(self) -> Iterator[tuple[str, Map, dict[int, int]]]:
        """Yield each map of sockets that a history has used, and what it holds: slots to the numbers of sockets."""
        world, maps = self._world, self._puppets.maps
        if world.taken["reuseport_array_update"]:
            yield "sockarray", maps.sockarray, _numbers(world.slots)
        if world.taken["reuseport_array_update: an heir"]:
            yield "sockarray of heirs", maps.heirs, _numbers(world.sockarrays[HEIRS])
        if world.taken["sock_map_update_common"]:
            yield "sockmap", maps.sockmap, _numbers(world.sockmap)
        if world.taken["sock_hash_update_common"]:
            yield "sockhash", maps.sockhash, _numbers(world.sockhash)

    def _received(self, socket: Socket, probe: Datagram, fast_opened: FastOpened | None, pending: Counter[int]) -> str:
        """Note in the model that a socket has a packet; say what is wrong about fast open, or nothing."""
        world = self._world
        if world.protocol is Protocol.UDP:
            receive(world, socket)
            return ""
        if world.cookies:
            requests.note_cookie(world, socket)
        given = probes.given_by_probes(world)
        expected = try_fast_open(world, socket, probe.family, given, pending=pending[socket.number])
        pending[socket.number] += expected.data_taken
        sentence = connections.fast_open_differs(fast_opened, expected)
        return f"of {_words(probe)}, {sentence}" if sentence and socket.pending_is_known else ""

    def _send(self, wanted: Probes) -> tuple[set[Datagram], dict[Datagram, list[int]], dict[Datagram, FastOpened]]:
        """Return the probes that were answered by an error, those that arrived with who holds them, and SYN-ACKs'."""
        if self._world.protocol is Protocol.UDP:
            answered = probes.send(self._wire, wanted)
            numbered = self._puppets.received()
            return answered, {wanted.by_number[number]: holders for number, holders in numbered.items()}, {}
        replies = connections.open_all(self._wire, wanted, again=self._world.cookies)
        accepted = self._puppets.accepted()
        ports = {(probe.family, probe.source_port): probe for probe in wanted.by_number.values()}
        held = {ports[port]: holders for port, holders in accepted.items()}
        fast_opened = {probe: connections.fast_opened(reply) for probe, reply in replies.syn_acks.items()}
        return replies.refused, held, fast_opened


def _numbers(slots: dict[int, Socket]) -> dict[int, int]:
    return {index: made.number for index, made in slots.items()}


def _words(probe: Datagram) -> str:
    host = "" if probe.from_peer else "another host's "
    return f"a packet over {probe.family} from {host}port {probe.source_port} for index {probe.index}"


def _counts(results: Counter[Result]) -> str:
    return ", ".join(f"{result.name} {count}" for result, count in sorted(results.items())) or "nothing"


def _socket(number: int | None) -> str:
    if number == SILENT:
        return "a socket that is silent"
    return "no socket" if number is None else f"socket {number}"


def _any(numbers: Iterable[int | None]) -> str:
    return " or ".join(sorted(map(_socket, numbers)))


def _errno(number: int) -> str:
    if number == ENOTSUPP:
        return "ENOTSUPP"
    return errno.errorcode.get(number, str(number)) if number else "no error"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The sockets of a history on the kernel under test: each step is done to them, and what they hold is read."""

from __future__ import annotations

import errno
import select
import socket
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.campaign.foreigners import Foreigners
from harness.campaign.probes import PAYLOAD_SIZE, numbers_of
from harness.campaign.socket_maps import SocketMaps
from harness.group.sockets import NumberedSockets, accept_and_reset
from harness.loader.bindings import BpfError
from harness.model.abi import BY_HASH, REFUSE
from harness.model.layout import Family, Protocol
from harness.model.life import foreign, segments, sockmap, steps
from harness.model.life.fast_open import KEYS
from harness.model.life.requests import BACKLOG
from harness.model.life.state import Keys, Program
from harness.model.uapi import BPF_ANY, TCP_FASTOPEN_KEY
from harness.wire.batch import message_buffers
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.loader import program as loaded
    from harness.loader.maps import Map
    from harness.model.abi import Result
    from harness.wire.veth import Wire

    _Acts = dict[type[steps.Step], Callable[..., None]]

_NEEDED: Mapping[type[steps.Step], Program] = MappingProxyType({
    segments.Refuse: Program.MIGRATE,
    segments.Name: Program.MIGRATE,
    segments.FillHeir: Program.MIGRATE,
    segments.EmptyHeir: Program.MIGRATE,
    sockmap.Link: Program.MAP,
    sockmap.Unlink: Program.MAP,
    foreign.LinkConnection: Program.MAP,
    sockmap.LinkKey: Program.HASH,
    sockmap.UnlinkKey: Program.HASH,
})  # fmt: skip
"""The programs whose maps or decisions steps are about."""

_CONNECTION = foreign.Kind.CONNECTION
_COOKIES, _MIGRATE = "net/ipv4/tcp_syncookies", "net/ipv4/tcp_migrate_req"


class Puppets:
    """The sockets of one history. `close` closes them; the next history uses the port again."""

    def __init__(
        self,
        wire: Wire,
        programs: Mapping[Program, loaded.Program],
        sockarrays: Sequence[Map],
        protocol: Protocol,
        *,
        migrates: bool,
        port: int,
    ) -> None:
        self._wire, self._programs, self._protocol = wire, programs, protocol
        self.maps = SocketMaps(programs, sockarrays)
        """The maps that hold the sockets."""
        self._migrates, self._port = migrates, port
        self._sockets = NumberedSockets(port=port)
        self._foreigners = Foreigners(protocol, port, programs[Program.DROP])
        self._place: dict[int, int] = {}  # a history's number of a socket to the one that it has here
        self._number: dict[int, int] = {}  # a file descriptor to a history's number
        self._keyed: set[int] = set()  # the numbers of listeners that have keys for fast open
        self._attached: set[Program] = set()  # those that any group has had: no other one can have run
        self._poll = select.epoll()
        if Program.MIGRATE in programs:
            self._have_inherit(BY_HASH)
        self._acts = {**self._acts_on_sockets(), **self._acts_on_maps(), **self._acts_on_tcp()}

    def _acts_on_sockets(self) -> _Acts:
        """Return what does each step to one socket."""
        return {
            steps.Open: self._open,
            steps.Bind: self._bind,
            steps.Listen: self._listen,
            steps.Shutdown: self._shutdown,
            steps.Connect: self._connect,
            steps.Disconnect: lambda step: self._sockets.disconnect(self._place[step.socket]),
            steps.Close: lambda step: self._close(step.socket),
            steps.Leave: lambda step: self._close(step.socket),
            steps.SetReuseport: lambda step: self._set(step.socket, socket.SO_REUSEPORT, step.on),
            steps.SetCpu: self._set_cpu,
            steps.Attach: self._attach,
            steps.Detach: lambda step: self._sockets.detach(self._place[step.socket]),
            steps.Crowd: self._crowd,
            segments.FastOpen: lambda step: self._set_fast_open(step.socket, BACKLOG if step.on else 0),
            segments.FastOpenLimit: lambda step: self._set_fast_open(step.socket, step.limit),
            segments.FastOpenKeys: lambda step: self._set_keys(step.socket, step.keys),
        }

    def _acts_on_tcp(self) -> _Acts:
        """Return what does each step to all connections: settings of the namespace, and who inherits them."""
        return {
            segments.Cookies: lambda step: self._set_cookies(step.on),
            segments.Migrate: lambda step: self._wire.settings.set(_MIGRATE, int(step.on)),
            segments.Refuse: lambda step: self._have_inherit(REFUSE if step.on else BY_HASH),
            segments.Name: lambda step: self._have_inherit(step.slot),
            segments.NeedCookie: lambda step: self._wire.settings.allow_fast_open(with_cookie=step.on),
        }

    def _acts_on_maps(self) -> _Acts:
        """Return what does each step to the maps of sockets."""
        maps = self.maps
        return {
            steps.Fill: lambda step: maps.put(self._of(step), step.socket, maps.sockarray, step.slot, step.flags),
            steps.Empty: lambda step: maps.sockarray.remove(step.slot),
            steps.Swap: lambda _: maps.swap(),
            steps.Withdraw: lambda _: maps.withdraw(),
            segments.FillHeir: lambda step: maps.put(self._of(step), step.socket, maps.heirs, step.slot, step.flags),
            segments.EmptyHeir: lambda step: maps.heirs.remove(step.slot),
            sockmap.Link: lambda step: maps.put(self._of(step), step.socket, maps.sockmap, step.slot, step.flags),
            sockmap.Unlink: lambda step: maps.sockmap.remove(step.slot),
            sockmap.LinkKey: lambda step: maps.put(self._of(step), step.socket, maps.sockhash, step.key, step.flags),
            sockmap.UnlinkKey: lambda step: maps.sockhash.remove(step.key),
            foreign.Foreign: lambda step: maps.put(
                self._foreigners[step.kind], step.kind.number, maps.sockarray, step.slot, step.flags
            ),
            foreign.LinkConnection: lambda step: maps.put(
                self._foreigners[_CONNECTION], _CONNECTION.number, maps.sockmap, step.slot, BPF_ANY
            ),
        }

    def do(self, step: steps.Step) -> int:
        """Do a step; return the kernel's errno, 0 for none."""
        try:
            self._acts[type(step)](step)
        except BpfError as error:
            return error.errno or errno.EIO
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def has(self, number: int) -> bool:
        """Return whether a socket of a history is open."""
        return number in self._place

    def lacks(self, step: steps.Step) -> bool:
        """Return whether a step is about a program that this kernel cannot have."""
        if isinstance(step, steps.Attach):
            return step.program not in self._programs
        return _NEEDED.get(type(step), Program.SLOT) not in self._programs

    def received(self) -> dict[int, list[int]]:
        """Take what the sockets hold: the number of each probe to the sockets that hold it."""
        held: dict[int, list[int]] = {}
        buffers = message_buffers(PAYLOAD_SIZE)
        while ready := self._poll.poll(0):
            for descriptor, _ in ready:
                number = self._number[descriptor]
                for probe in numbers_of(buffers.receive(self._sockets[self._place[number]])):
                    held.setdefault(probe, []).append(number)
        return held

    def forget_results(self) -> None:
        """Leave what programs counted until now to nobody, such as a history that ended early."""
        for made in self._programs.values():
            made.new_results()

    def results(self) -> Counter[Result]:
        """Return what programs counted since the last call."""
        counted: Counter[Result] = Counter()
        for program in self._attached - {Program.DROP}:  # which counts nothing that a history can know
            counted.update(self._programs[program].new_results())
        return counted

    def close(self) -> None:
        """Close every socket, and put the outer map back."""
        self.maps.restore()
        self._poll.close()
        self._sockets.close()
        self._foreigners.close()
        self._set_cookies(False)
        if self._wire.settings.fast_open_needs_cookie:
            self._wire.settings.allow_fast_open()
        if self._migrates:
            self._wire.settings.set(_MIGRATE, 1)

    def accepted(self) -> dict[tuple[Family, int], list[int]]:
        """Accept every connection and reset it: its family and port to the listeners that had one from there."""
        held = self._accepted()
        self._wire.send(())
        return held

    def held(self) -> list[int]:
        """Take what the sockets hold, and leave the wire alone: datagrams' numbers, or the ports of connections."""
        if self._protocol is Protocol.UDP:
            return [number for number, holders in self.received().items() for _ in holders]
        return [port for (_, port), holders in self._accepted().items() for _ in holders]

    def _accepted(self) -> dict[tuple[Family, int], list[int]]:
        held: dict[tuple[Family, int], list[int]] = {}
        while ready := self._poll.poll(0):
            for descriptor, _ in ready:
                number = self._number[descriptor]
                for connection in accept_and_reset(self._sockets[self._place[number]]):
                    held.setdefault(connection, []).append(number)
        return held

    def accepted_unasked(self) -> dict[tuple[Family, int], list[int]]:
        """Do the same for connections of which epoll says nothing."""
        held: dict[tuple[Family, int], list[int]] = {}
        for number, place in self._place.items():
            for connection in accept_and_reset(self._sockets[place]):
                held.setdefault(connection, []).append(number)
        self._wire.send(())
        return held

    def _of(self, step: steps.OnSocket) -> socket.socket:
        return self._sockets[self._place[step.socket]]

    def _open(self, step: steps.Open) -> None:
        place = self._sockets.open(
            self._protocol,
            family=step.family,
            address=step.family.server if step.specific else None,
            reuseport=step.reuseport,
            v6only=True if step.v6only and step.family is not Family.IPV4 else None,
            device=SERVER_LINK if step.device else None,
            user=step.user or None,
            bind=step.bind,
        )
        made = self._sockets[place]
        self._place[step.socket] = place
        self._number[made.fileno()] = step.socket
        self._poll.register(made, select.EPOLLIN)

    def _listen(self, step: steps.Listen) -> None:
        self._of(step).listen(BACKLOG)
        self._poll.register(self._of(step), select.EPOLLIN)

    def _shutdown(self, step: steps.Shutdown) -> None:
        self._poll.unregister(self._of(step))  # it would be ready all the time
        self._of(step).shutdown(socket.SHUT_RD)

    def _bind(self, step: steps.Bind) -> None:
        made = self._sockets[self._place[step.socket]]
        family = Family.IPV4 if made.family == socket.AF_INET else Family.IPV6
        made.bind((family.server if step.specific else family.any, self._port))

    def _connect(self, step: steps.Connect) -> None:
        made = self._sockets[self._place[step.socket]]
        family = Family.IPV4 if made.family == socket.AF_INET else Family.IPV6
        made.connect((family.peer, step.peer))

    def _close(self, number: int) -> None:
        self._keyed.discard(number)
        made = self._sockets[self._place.pop(number)]
        del self._number[made.fileno()]
        made.close()

    def _attach(self, step: steps.Attach) -> None:
        self._attached.add(step.program)
        self._sockets.attach(self._place[step.socket], self._programs[step.program])

    def _set(self, number: int, option: int, value: int) -> None:
        self._sockets.set_option(self._place[number], option, int(value))

    def _set_cpu(self, step: steps.SetCpu) -> None:
        here = self._wire.settings.cpu
        self._set(step.socket, socket.SO_INCOMING_CPU, {-1: -1, 0: here}.get(step.cpu, here + 1))

    def _set_cookies(self, on: bool) -> None:
        if on:
            self._wire.settings.send_syncookies()
        else:
            self._wire.settings.set(_COOKIES, 0)

    def _have_inherit(self, slot: int) -> None:
        self._programs[Program.MIGRATE].state = slot

    def _set_fast_open(self, number: int, limit: int) -> None:
        if number not in self._keyed:
            self._set_keys(number, Keys.FIRST)
        self._sockets[self._place[number]].setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, limit)

    def _set_keys(self, number: int, keys: Keys) -> None:
        self._keyed.add(number)
        self._sockets[self._place[number]].setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, b"".join(KEYS[keys]))

    def _crowd(self, step: steps.Crowd) -> None:
        if there := [number for number in step.numbers if number in self._place]:
            for number in there:
                self._close(number)
            return
        for number in step.numbers:
            self._open(steps.Open(number, step.family, specific=step.specific))

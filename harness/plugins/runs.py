# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What makes runs of histories: the programs, sysctls and timer that single histories and pairs of them need."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from harness.group.timers import late_syn_ack_timer
from harness.kernel.features import present
from harness.model.layout import InnerMap, Protocol
from harness.model.life.slots import SLOTS
from harness.model.life.sockmap import KEYS
from harness.model.life.state import HISTORY_PORT, Program
from harness.model.variants import VARIANTS
from harness.plugins.campaigns import behaviour_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.campaign.history import Run
    from harness.group.protocols import LoadProgram
    from harness.loader import program as loaded
    from harness.loader.maps import Map
    from harness.wire.veth import Wire

_MIGRATE = "net/ipv4/tcp_migrate_req"
_SELECTING = ("select_from_sockmap", "udp_in_sockmap")
_NEEDED = {Program.MAP: _SELECTING, Program.HASH: _SELECTING, Program.MIGRATE: VARIANTS["migrate"].requires}
_INNER = {Program.MAP: InnerMap.SOCKMAP, Program.HASH: InnerMap.SOCKHASH}
_NAMES = {Program.HASH: Program.MAP.value}
_SIZES = {Program.HASH: KEYS}


class Runs:
    """What makes runs of histories on this kernel. `undo` is closed once no run is needed any more."""

    def __init__(self, wire: Wire, load: LoadProgram, undo: ExitStack) -> None:
        self.wire, self._load, self._undo = wire, load, undo
        self._sets: list[tuple[Mapping[Program, loaded.Program], Sequence[Map]]] = []
        self._has_tcp = False  # whether the machine is set for histories of TCP
        undo.callback(wire.send, ())
        undo.callback(wire.settings.restore)

    def run(
        self, protocol: Protocol, unknown: Iterable[str], *, port: int = HISTORY_PORT, programs: int | None = None
    ) -> Run:
        """Return a run of histories; the model is not told of the bugs in `unknown`.

        `programs` numbers the set of programs: runs of the same time have sets of their own. Without it there is no
        other run at that time.
        """
        from harness.campaign.history import Run  # noqa: PLC0415
        from harness.campaign.leftover import SocketsInUse  # noqa: PLC0415

        if protocol is Protocol.TCP:
            self._set_tcp()
        while len(self._sets) <= (programs or 0):
            self._sets.append(self._loaded())
        loaded_programs, sockarrays = self._sets[programs or 0]
        in_use = None
        if programs is None:
            in_use = SocketsInUse()
            self._undo.callback(in_use.close)
        migrates = protocol is Protocol.TCP and present("tcp_migrate_req")
        return Run(
            self.wire, loaded_programs, behaviour_here(unknown), protocol=protocol, migrates=migrates, port=port,
            sockarrays=sockarrays, in_use=in_use,
        )  # fmt: skip

    def _loaded(self) -> tuple[Mapping[Program, loaded.Program], Sequence[Map]]:
        """Load a history's programs, as far as the kernel can select from their maps."""
        from harness.campaign.history import sockarrays_of  # noqa: PLC0415

        programs = {
            program: self._load(
                _NAMES.get(program, program.value),
                size=_SIZES.get(program, SLOTS),
                inner_map=_INNER.get(program, InnerMap.SOCKARRAY),
            )
            for program in Program
            if all(map(present, _NEEDED.get(program, ())))
        }
        return programs, sockarrays_of(programs)

    def _set_tcp(self) -> None:
        if self._has_tcp:
            return
        self._has_tcp = True
        # A slow guest may take longer than a second from a SYN to its ACK: nothing must be sent again meanwhile.
        self._undo.enter_context(late_syn_ack_timer())
        self.wire.settings.allow_fast_open()
        if present("tcp_migrate_req"):
            self.wire.settings.set(_MIGRATE, 1)


@pytest.fixture
def runs(wire: Wire, load_for_test: LoadProgram) -> Iterator[Runs]:
    """Return what makes runs of histories on this kernel."""
    with ExitStack() as undo:
        yield Runs(wire, load_for_test, undo)

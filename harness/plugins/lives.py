# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories at once, in a campaign. The cases have the mark `history`; what fails is not made shorter."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from harness.group.timers import late_syn_ack_timer
from harness.interface.keys import REACHED
from harness.kernel.features import present
from harness.kernel.release import running
from harness.model.layout import Protocol
from harness.model.life.state import HISTORY_PORT
from harness.plugins.campaigns import behaviour_here
from harness.plugins.histories import MIGRATE, load_programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.campaign.history import Run
    from harness.group.protocols import LoadProgram, RecordProperty
    from harness.loader import program as loaded
    from harness.loader.maps import Map
    from harness.model.life.state import Program
    from harness.wire.veth import Wire

SHORT_SECONDS = 0.3
"""What the default run takes for each of the two cases, if it is not a single pair that takes longer."""

_SHORT_PAIRS = 12
_OTHER_PORT = HISTORY_PORT + 10
_PROTOCOLS = tuple(itertools.product(Protocol, repeat=2))


class TwoLives:
    """What has two histories live at once on this kernel."""

    def __init__(self, wire: Wire, load: LoadProgram, record: RecordProperty, config: pytest.Config) -> None:
        self._wire, self._record, self._option = wire, record, config.option
        self._programs = [load_programs(load) for _ in range(2)]
        self._sockarrays = [self._made(programs) for programs in self._programs]
        self._migrates = present("tcp_migrate_req")
        if self._migrates:
            wire.settings.set(MIGRATE, 1)
        wire.settings.allow_fast_open()

    def campaign(self, *, ports: int) -> None:
        """Try pairs of histories on one port or on two as long as the options say; fail with the first that differs."""
        from harness.campaign.difference import Difference  # noqa: PLC0415  # hypothesis: a second under emulation
        from harness.campaign.together import Together  # noqa: PLC0415

        if self._option.replay:
            pytest.skip(f"{self._option.replay} is no pair of histories")
        seconds = SHORT_SECONDS if self._option.campaign is None else self._option.campaign
        most = _SHORT_PAIRS if self._option.campaign is None else None
        runs = self._runs(ports)
        started, number, found = time.monotonic(), 0, ""
        while number == 0 or (number != most and time.monotonic() - started < seconds):
            first, second = runs[number % len(runs)]
            pair = Together(
                first=first, second=second, cpu=self._other_cpu, seed=f"{self._option.seed or 0} {ports}",
                crowds=most is None,
            )  # fmt: skip
            try:
                (pair.on_one_port if ports == 1 else pair.on_two_ports)(number)
            except Difference as difference:
                found = str(difference)
                break
            number += 1
        if found:
            pytest.fail(found, pytrace=False)
        firsts = {id(first): first for first, _ in runs}.values()
        self._record(REACHED, _reached(list(firsts), ports, time.monotonic() - started) | {"tried": number, "of": most})

    @staticmethod
    def _made(programs: Mapping[Program, loaded.Program]) -> Sequence[Map]:
        from harness.campaign.history import sockarrays_of  # noqa: PLC0415

        return sockarrays_of(programs)

    @property
    def _other_cpu(self) -> int:
        here = self._wire.settings.cpu
        return next((cpu for cpu in self._wire.cpus if cpu != here), here)

    def _runs(self, ports: int) -> list[tuple[Run, Run]]:
        if ports == 1:
            return [(self._run(0, each, HISTORY_PORT), self._run(1, each, HISTORY_PORT)) for each in Protocol]
        return [(self._run(0, one, HISTORY_PORT), self._run(1, other, _OTHER_PORT)) for one, other in _PROTOCOLS]

    def _run(self, which: int, protocol: Protocol, port: int) -> Run:
        from harness.campaign.history import Run  # noqa: PLC0415

        migrates = self._migrates and protocol is Protocol.TCP
        return Run(
            self._wire, self._programs[which], behaviour_here(self._option.unknown), protocol=protocol,
            migrates=migrates, port=port, sockarrays=self._sockarrays[which],
        )  # fmt: skip


@pytest.fixture
def two_lives(
    wire: Wire, load_for_test: LoadProgram, record_property: RecordProperty, pytestconfig: pytest.Config
) -> Iterator[TwoLives]:
    """Return what has two histories live at once on this kernel."""
    with ExitStack() as undo:
        undo.callback(wire.send, ())
        undo.callback(wire.settings.restore)
        # A slow guest may take longer than a second from a SYN to its ACK: nothing must be sent again meanwhile.
        undo.enter_context(late_syn_ack_timer())
        yield TwoLives(wire, load_for_test, record_property, pytestconfig)


def _reached(runs: list[Run], ports: int, seconds: float) -> dict[str, Any]:
    return {
        "kernel": str(running()),
        "of_what": f"pairs of histories on {'one port' if ports == 1 else 'two ports'}",
        "steps": sum(run.steps for run in runs),
        "packets": sum(run.packets for run in runs),
        "seconds": seconds,
        "taken": dict(sum((run.taken for run in runs), start=type(runs[0].taken)())),
        "refused": {},
    }

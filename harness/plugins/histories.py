# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories that hypothesis makes, run in a campaign or from a file.

A campaign's cases have the mark `history`. What one finds and reaches goes to the controller as a property
(`kept_histories`).
"""

from __future__ import annotations

import typing
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.group.timers import late_syn_ack_timer
from harness.interface.keys import HISTORY, REACHED
from harness.kernel.features import present
from harness.kernel.release import running
from harness.model.layout import InnerMap, Protocol
from harness.model.life.slots import SLOTS
from harness.model.life.state import Program
from harness.model.variants import VARIANTS
from harness.plugins.campaigns import behaviour_here, log, read_replay, search_as_told, story_of
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.difference import Difference
    from harness.campaign.history import Run
    from harness.campaign.saved import Saved
    from harness.group.protocols import LoadProgram, RecordProperty
    from harness.loader import program as loaded
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire

SHORT_EXAMPLES = 25
"""Histories of the default run: about a second natively."""


_INNER = {Program.MAP: InnerMap.SOCKMAP}
_NEEDED = {Program.MAP: ("select_from_sockmap", "udp_in_sockmap"), Program.MIGRATE: VARIANTS["migrate"].requires}


MIGRATE = "net/ipv4/tcp_migrate_req"


def load_programs(load: LoadProgram) -> dict[Program, loaded.Program]:
    """Load a history's programs, as far as the kernel can select from their maps."""
    return {
        program: load(program.value, size=SLOTS, inner_map=_INNER.get(program, InnerMap.SOCKARRAY))
        for program in Program
        if all(map(present, _NEEDED.get(program, ())))
    }


class Histories:
    """What runs histories on this kernel."""

    def __init__(
        self, wire: Wire, load: LoadProgram, record: RecordProperty, config: pytest.Config, undo: ExitStack
    ) -> None:
        self._wire, self._record, self._option, self._undo = wire, record, config.option, undo
        self._is_late = False  # whether the timer of SYN-ACKs is set
        self._programs = load_programs(load)

    def campaign(self, protocol: Protocol) -> None:
        """Search for a difference as the options say; fail with the shortest history that shows it."""
        if self._option.replay:
            self._replay_file(protocol)
            return
        from harness.campaign.search import Search  # noqa: PLC0415  # hypothesis: a second under emulation
        from harness.campaign.strategy import histories, reader  # noqa: PLC0415

        run = self._run(self._option.unknown, protocol)
        search: Search[Step] = Search(histories(), run.run, read=reader(protocol), before=partial(_log, protocol))
        try:
            searched = search_as_told(search, self._option, SHORT_EXAMPLES)
        except KeyboardInterrupt:
            pytest.exit(self._interrupted(run, search.found), returncode=pytest.ExitCode.INTERRUPTED)
        if search.found is None:
            self._record(REACHED, _reached(run) | searched)
            return
        self._fail(run, *search.found, unknown=tuple(self._option.unknown))

    def _replay_file(self, protocol: Protocol) -> None:
        from harness.campaign.saved import Saved  # noqa: PLC0415

        saved = read_replay(self._option.replay)
        if not isinstance(saved, Saved) or saved.protocol is not protocol:
            pytest.skip(f"{self._option.replay} is no history of {protocol.upper()}")
        self.replay(*saved.steps, unknown=saved.unknown, protocol=protocol)

    def replay(self, *steps: Step, unknown: tuple[str, ...] = (), protocol: Protocol = Protocol.UDP) -> None:
        """Run one history; fail where kernel and model differ. The model is not told of the bugs in `unknown`."""
        from harness.campaign.life import DifferenceError  # noqa: PLC0415

        run = self._run([*unknown, *self._option.unknown], protocol)
        try:
            run.run(steps)
        except DifferenceError as difference:
            self._fail(run, steps[: difference.place], difference, unknown=(*unknown, *self._option.unknown))

    def _run(self, unknown: list[str] | tuple[str, ...], protocol: Protocol) -> Run:
        from harness.campaign.history import Run  # noqa: PLC0415

        if protocol is Protocol.TCP and not self._is_late:
            self._is_late = True
            # A slow guest may take longer than a second from a SYN to its ACK: nothing must be sent again meanwhile.
            self._undo.enter_context(late_syn_ack_timer())
            self._wire.settings.allow_fast_open()
        migrates = protocol is Protocol.TCP and present("tcp_migrate_req")
        if migrates:
            self._wire.settings.set(MIGRATE, 1)
        return Run(self._wire, self._programs, behaviour_here(unknown), protocol=protocol, migrates=migrates)

    def _fail(self, run: Run, steps: tuple[Step, ...], difference: Difference, *, unknown: tuple[str, ...]) -> None:
        from harness.campaign.search import without_idle  # noqa: PLC0415

        steps, difference = without_idle(run.run, steps) or (steps, difference)
        saved = self._saved(run, steps, difference, unknown)
        self._record(HISTORY, saved.to_json())
        pytest.fail(_story(run, saved), pytrace=False)

    def _saved(self, run: Run, steps: tuple[Step, ...], difference: Difference, unknown: tuple[str, ...]) -> Saved:
        from harness.campaign.life import DifferenceError  # noqa: PLC0415
        from harness.campaign.probes import frame  # noqa: PLC0415
        from harness.campaign.saved import Saved  # noqa: PLC0415

        assert isinstance(difference, DifferenceError)
        return Saved(
            steps=steps,
            difference=str(difference),
            sentence=difference.sentence,
            kernel=str(running()),
            protocol=run.protocol,
            unknown=unknown,
            seed=self._option.seed or 0,
            frame="" if difference.probe is None else frame(difference.probe, run.protocol).hex(),
        )

    def _interrupted(self, run: Run, found: tuple[tuple[Step, ...], Difference] | None) -> str:
        if found is None:
            return f"interrupted: no difference in {run.histories} histories, {run.steps} steps"
        saved = self._saved(run, *found, tuple(self._option.unknown))
        with suppress(OSError):
            keep(saved.to_json(), Path.cwd())
        return f"interrupted while it was made shorter:\n{_story(run, saved)}"


@pytest.fixture
def histories(
    wire: Wire, load_for_test: LoadProgram, record_property: RecordProperty, pytestconfig: pytest.Config
) -> Iterator[Histories]:
    """Return what runs histories on this kernel."""
    with ExitStack() as undo:
        undo.callback(wire.send, ())
        undo.callback(wire.settings.restore)
        yield Histories(wire, load_for_test, record_property, pytestconfig, undo)


class History(typing.Protocol):
    """A function that runs one history."""

    def __call__(self, *steps: Step, unknown: tuple[str, ...] = (), protocol: Protocol = Protocol.UDP) -> None:
        """Fail where kernel and model differ; the model is not told of the bugs in `unknown`."""


@pytest.fixture
def history(histories: Histories) -> History:
    """Return the function that runs one history, as campaigns print it."""
    return histories.replay


def _log(protocol: Protocol, numbers: list[int]) -> None:
    from harness.campaign.saved import log_line  # noqa: PLC0415

    log([log_line(protocol, numbers)])


def _story(run: Run, saved: Saved) -> str:
    return story_of(saved, f"{run.histories} histories, {run.steps} steps")


def _reached(run: Run) -> dict[str, Any]:
    return {
        "kernel": str(running()),
        "of_what": f"histories of {run.protocol.upper()}",
        "steps": run.steps,
        "packets": run.packets,
        "seconds": run.seconds,
        "taken": dict(run.taken),
        "refused": dict(run.refused),
    }

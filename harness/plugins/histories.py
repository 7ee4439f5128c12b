# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories that hypothesis makes, run in a campaign or from a file.

A campaign's cases have the mark `history`. What one finds and reaches goes to the controller as a property
(`kept_histories`).
"""

from __future__ import annotations

import typing
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import HISTORY, REACHED
from harness.kernel.release import running
from harness.model.layout import Protocol
from harness.plugins.campaigns import log, read_replay, search_as_told, story_of
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from harness.campaign.difference import Difference
    from harness.campaign.history import Run
    from harness.campaign.saved import Saved
    from harness.campaign.search import Search
    from harness.group.protocols import RecordProperty
    from harness.model.life.steps import Step
    from harness.plugins.runs import Runs

SHORT_EXAMPLES = 25
"""Histories of the default run: about a second natively."""


class Histories:
    """What runs histories on this kernel."""

    def __init__(self, runs: Runs, record: RecordProperty, config: pytest.Config) -> None:
        self._runs, self._record, self._option = runs, record, config.option

    def campaign(self, protocol: Protocol) -> None:
        """Search for a difference as the options say; fail with the shortest history that shows it."""
        if self._option.replay:
            self._replay_file(protocol)
            return
        from harness.campaign.search import Search  # noqa: PLC0415  # hypothesis: a second under emulation
        from harness.campaign.strategy import histories, reader  # noqa: PLC0415

        run = self._runs.run(protocol, self._option.unknown)
        search: Search[Step] = Search(
            histories(protocol), run.run, read=reader(protocol), before=partial(_log, protocol)
        )
        try:
            searched = search_as_told(search, self._option, SHORT_EXAMPLES)
        except KeyboardInterrupt:
            pytest.exit(self._interrupted(run, search), returncode=pytest.ExitCode.INTERRUPTED)
        if search.found is None:
            self._record(REACHED, _reached(run) | searched)
            return
        self.fail(run, *search.found, unknown=tuple(self._option.unknown), searched=search.searched)

    def _replay_file(self, protocol: Protocol) -> None:
        from harness.campaign.saved import Saved  # noqa: PLC0415

        saved = read_replay(self._option.replay)
        if not isinstance(saved, Saved) or saved.protocol is not protocol:
            pytest.skip(f"{self._option.replay} is no history of {protocol.upper()}")
        self.replay(*saved.steps, unknown=saved.unknown, protocol=protocol)

    def replay(self, *steps: Step, unknown: tuple[str, ...] = (), protocol: Protocol = Protocol.UDP) -> None:
        """Run one history; fail where kernel and model differ. The model is not told of the bugs in `unknown`."""
        from harness.campaign.life import DifferenceError  # noqa: PLC0415

        run = self._runs.run(protocol, [*unknown, *self._option.unknown])
        try:
            run.run(steps)
        except DifferenceError as difference:
            self.fail(run, steps[: difference.place], difference, unknown=(*unknown, *self._option.unknown))

    def fail(
        self,
        run: Run,
        steps: tuple[Step, ...],
        difference: Difference,
        *,
        unknown: tuple[str, ...],
        searched: str = "",
    ) -> None:
        """Fail with a history that differs, once it is as short as can be; `searched` says what it took to find."""
        from harness.campaign.search import without_idle  # noqa: PLC0415

        steps, difference = without_idle(run.run, steps) or (steps, difference)
        saved = self._saved(run, steps, difference, unknown, searched)
        self._record(HISTORY, saved.to_json())
        pytest.fail(story_of(saved), pytrace=False)

    def _saved(
        self, run: Run, steps: tuple[Step, ...], difference: Difference, unknown: tuple[str, ...], searched: str
    ) -> Saved:
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
            searched=searched,
            frame="" if difference.probe is None else frame(difference.probe, run.protocol).hex(),
        )

    def _interrupted(self, run: Run, search: Search[Step]) -> str:
        if search.found is None:
            return f"interrupted: no difference in {run.histories} histories, {run.steps} steps"
        saved = self._saved(run, *search.found, tuple(self._option.unknown), search.searched)
        with suppress(OSError):
            keep(saved.to_json(), Path.cwd())
        return f"interrupted while it was made shorter:\n{story_of(saved)}"


@pytest.fixture
def histories(runs: Runs, record_property: RecordProperty, pytestconfig: pytest.Config) -> Histories:
    """Return what runs histories on this kernel."""
    return Histories(runs, record_property, pytestconfig)


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

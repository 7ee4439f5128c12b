# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two histories at once, in a campaign or from a file. The cases have the mark `history`."""

from __future__ import annotations

import itertools
import random
import time
import typing
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import HISTORY, REACHED
from harness.kernel.release import running
from harness.model.layout import Protocol
from harness.model.life.state import HISTORY_PORT
from harness.plugins.campaigns import log, read_replay, story_of
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.campaign.difference import Difference
    from harness.campaign.history import Run
    from harness.campaign.pair import Pair
    from harness.campaign.saved_pairs import SavedPair
    from harness.campaign.shorten import Tries
    from harness.campaign.together import Together
    from harness.group.protocols import RecordProperty
    from harness.model.life.steps import Step
    from harness.plugins.histories import Histories
    from harness.plugins.runs import Runs

SHORT_SECONDS = 0.3
"""What the default run takes for each of the two cases, if it is not a single pair that takes longer."""

_SHORT_PAIRS = 12
_OTHER_PORT = HISTORY_PORT + 10
_PROTOCOLS: dict[int, list[tuple[Protocol, Protocol]]] = {
    1: [(protocol, protocol) for protocol in Protocol],
    2: list(itertools.product(Protocol, Protocol)),
}
"""The protocols of two histories, by the number of ports that they are about."""


class TwoLives:
    """What has two histories live at once on this kernel."""

    def __init__(self, runs: Runs, histories: Histories, record: RecordProperty, config: pytest.Config) -> None:
        self._runs, self._histories, self._record, self._option = runs, histories, record, config.option
        self._source = random.Random(self._option.seed or 0)  # not for secrets

    def campaign(self, *, ports: int) -> None:
        """Try pairs of histories on one port or on two as long as the options say; fail with the first that differs."""
        if self._option.replay:
            self._replay_file(ports)
            return
        from harness.campaign.difference import difference_of  # noqa: PLC0415
        from harness.campaign.pair import drawn, pair_of  # noqa: PLC0415
        from harness.campaign.saved_pairs import log_line  # noqa: PLC0415

        is_short = self._option.campaign is None
        seconds = SHORT_SECONDS if is_short else self._option.campaign
        most = _SHORT_PAIRS if is_short else None
        unknown = tuple(self._option.unknown)
        each = [(protocols, self._together(protocols, ports, unknown)) for protocols in _PROTOCOLS[ports]]
        started, number = time.monotonic(), 0
        while number == 0 or (number != most and time.monotonic() - started < seconds):
            protocols, together = each[number % len(each)]
            numbers = drawn(f"{self._option.seed or 0} {ports} {number}", protocols, crowds=not is_short)
            log([log_line(numbers, protocols, ports)])
            pair = pair_of(numbers, protocols, ports)
            try:
                difference = difference_of(together.run, pair)
            except KeyboardInterrupt:
                said = f"interrupted: no difference in {number} pairs of histories"
                pytest.exit(said, returncode=pytest.ExitCode.INTERRUPTED)
            number += 1
            if difference is not None:
                searched = f"{number} tries, {time.monotonic() - started:.0f} s"
                self._found(together, pair, difference, unknown, searched)
        firsts = [together.first for _, together in each]
        self._record(REACHED, _reached(firsts, ports, time.monotonic() - started) | {"tried": number, "of": most})

    def replay(self, pair: Pair, *, unknown: tuple[str, ...] = ()) -> None:
        """Live through a pair several times; fail if kernel and model differ in any of them, and say in how many."""
        from harness.campaign.shorten import tries_of  # noqa: PLC0415

        unknown = (*unknown, *self._option.unknown)
        together = self._together(pair.protocols, pair.ports, unknown)
        tries = tries_of(together.run, pair)
        if tries.differences:
            self._fail(self._saved(pair, tries.differences[-1], unknown, "", tries))
        of_what = f"tries of a pair of histories on {_on(pair.ports)}"
        self._record(REACHED, {"kernel": str(running()), "of_what": of_what, "tried": tries.tried, "of": tries.tried})

    def _replay_file(self, ports: int) -> None:
        from harness.campaign.saved_pairs import SavedPair  # noqa: PLC0415

        saved = read_replay(self._option.replay)
        if not isinstance(saved, SavedPair) or saved.pair.ports != ports:
            pytest.skip(f"{self._option.replay} is no pair of histories on {_on(ports)}")
        self.replay(saved.pair, unknown=saved.unknown)

    def _found(
        self, together: Together, pair: Pair, difference: Difference, unknown: tuple[str, ...], searched: str
    ) -> None:
        """Fail with a pair that differs: as a single history if one does it alone, or else as short as can be."""
        from harness.campaign.difference import difference_of  # noqa: PLC0415
        from harness.campaign.shorten import shorter, tries_of  # noqa: PLC0415

        try:
            for history, protocol in ((pair.second, pair.protocols[1]), (pair.first, pair.protocols[0])):
                alone = self._runs.run(protocol, unknown)
                if (of_one := difference_of(alone.run, history)) is not None:
                    steps = history[: of_one.place]
                    self._histories.fail(alone, steps, of_one, unknown=unknown, searched=searched)
            for made_shorter, differs in shorter(together.run, pair):
                pair, difference = made_shorter, differs
            tries = tries_of(together.run, pair)
        except KeyboardInterrupt:
            saved = self._saved(pair, difference, unknown, searched, None)
            with suppress(OSError):
                keep(saved.to_json(), Path.cwd())
            said = f"interrupted while it was made shorter:\n{story_of(saved)}"
            pytest.exit(said, returncode=pytest.ExitCode.INTERRUPTED)
        self._fail(self._saved(pair, difference, unknown, searched, tries))

    def _fail(self, saved: SavedPair) -> None:
        self._record(HISTORY, saved.to_json())
        pytest.fail(story_of(saved), pytrace=False)

    def _saved(
        self, pair: Pair, difference: Difference, unknown: tuple[str, ...], searched: str, tries: Tries | None
    ) -> SavedPair:
        from harness.campaign.saved_pairs import SavedPair  # noqa: PLC0415
        from harness.campaign.together import TogetherError  # noqa: PLC0415

        assert isinstance(difference, TogetherError)
        return SavedPair(
            pair=pair,
            difference=f"{difference}; {tries}" if tries else str(difference),
            sentence=difference.sentence,
            kernel=str(running()),
            unknown=unknown,
            seed=self._option.seed or 0,
            searched=searched,
            tries=tries.tried if tries else 0,
            differed=len(tries.differences) if tries else 0,
            frames=tuple(frame.hex() for frame in difference.frames),
        )

    def _together(self, protocols: tuple[Protocol, Protocol], ports: int, unknown: Iterable[str]) -> Together:
        from harness.campaign.together import Together  # noqa: PLC0415

        first, second = protocols
        other_port = HISTORY_PORT if ports == 1 else _OTHER_PORT
        return Together(
            first=self._runs.run(first, unknown, programs=0),
            second=self._runs.run(second, unknown, port=other_port, programs=1),
            cpu=self._other_cpu,
            source=self._source,
        )

    @property
    def _other_cpu(self) -> int:
        wire = self._runs.wire
        here = wire.settings.cpu
        return next((cpu for cpu in wire.cpus if cpu != here), here)


@pytest.fixture
def two_lives(
    runs: Runs, histories: Histories, record_property: RecordProperty, pytestconfig: pytest.Config
) -> TwoLives:
    """Return what has two histories live at once on this kernel."""
    return TwoLives(runs, histories, record_property, pytestconfig)


class LivePair(typing.Protocol):
    """A function that lives through two histories at once, several times."""

    def __call__(
        self,
        *,
        first: Iterable[Step],
        second: Iterable[Step],
        protocols: tuple[Protocol, Protocol],
        ports: int,
        unknown: tuple[str, ...] = (),
    ) -> None:
        """Fail if kernel and model ever differ; the model is not told of the bugs in `unknown`."""


@pytest.fixture
def pair(two_lives: TwoLives) -> LivePair:
    """Return the function that lives through a pair of histories, as campaigns print it."""

    def live(
        *,
        first: Iterable[Step],
        second: Iterable[Step],
        protocols: tuple[Protocol, Protocol],
        ports: int,
        unknown: tuple[str, ...] = (),
    ) -> None:
        from harness.campaign.pair import Pair  # noqa: PLC0415

        both = Pair(first=tuple(first), second=tuple(second), protocols=protocols, ports=ports)
        two_lives.replay(both, unknown=unknown)

    return live


def _on(ports: int) -> str:
    return "one port" if ports == 1 else "two ports"


def _reached(runs: Iterable[Run], ports: int, seconds: float) -> dict[str, Any]:
    each = list(runs)
    return {
        "kernel": str(running()),
        "of_what": f"pairs of histories on {_on(ports)}",
        "steps": sum(run.steps for run in each),
        "packets": sum(run.packets for run in each),
        "seconds": seconds,
        "taken": dict(sum((run.taken for run in each), start=type(each[0].taken)())),
        "refused": {},
    }

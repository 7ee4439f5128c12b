# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories that hypothesis makes, run in a campaign or from a file.

A campaign's cases have the mark `history`. What one finds and reaches goes to the controller as a property
(`kept_histories`).
"""

from __future__ import annotations

import os
import typing
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import HISTORY, KERNEL_LOG, REACHED
from harness.kernel.features import present
from harness.kernel.ledger import State, bugs
from harness.kernel.release import running
from harness.model.layout import Protocol
from harness.model.life.behaviour import BY_BUG, behaviour
from harness.model.life.slots import SLOTS
from harness.model.life.state import Program
from harness.plugins.kept_histories import keep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.history import DifferenceError, Run
    from harness.campaign.saved import Saved
    from harness.group.protocols import LoadProgram, RecordProperty
    from harness.model.life.behaviour import Behaviour
    from harness.model.life.steps import Step
    from harness.wire.veth import Wire

SHORT_EXAMPLES = 25
"""Histories of the default run: about a second natively."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of campaigns."""
    group = parser.getgroup("histories", "histories of sockets that hypothesis makes (docs/campaigns.md)")
    group.addoption(
        "--campaign",
        type=float,
        metavar="SECONDS",
        help="run the cases with the mark `history` alone, each for that long, on histories that differ with --seed",
    )
    group.addoption("--seed", type=int, metavar="N", help="the campaign's seed (default: 0)")
    group.addoption(
        "--unknown",
        action="append",
        default=[],
        metavar="BUG",
        help=f"leave a bug of the ledger out of the model, to have the campaign find it: {', '.join(sorted(BY_BUG))}; "
        "may be given more than once",
    )
    group.addoption(
        "--replay",
        metavar="FILE",
        help="run one history again: a file of results/histories/, or the console's log of a kernel that died in one",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that make no sense before any kernel is started; collect what campaigns find."""
    config.addinivalue_line("markers", "history: histories that hypothesis makes (--campaign, --replay)")
    option = config.option
    if option.campaign is not None and not option.campaign > 0:
        raise pytest.UsageError(f"--campaign {option.campaign:g}: a campaign takes more than 0 seconds")
    if option.campaign is not None and option.replay:
        raise pytest.UsageError("--campaign makes new histories and --replay runs an old one: give one of them")
    if option.seed is not None and option.campaign is None:
        raise pytest.UsageError("--seed is for --campaign SECONDS: without it the histories are always the same")
    for name in option.unknown:
        if name not in bugs():
            raise pytest.UsageError(f"--unknown {name}: harness/kernel/ledger.toml has no such entry")
        if name not in BY_BUG:
            raise pytest.UsageError(f"--unknown {name}: the model knows nothing of it; it knows {', '.join(BY_BUG)}")
    if option.replay:
        _read(option.replay)
        option.replay = str(Path(option.replay).resolve())  # a worker may run elsewhere


def _read(name: str) -> Saved:
    from harness.campaign.saved import read  # noqa: PLC0415

    try:
        return read(Path(name))
    except ValueError as error:
        raise pytest.UsageError(f"--replay {name}: {error}") from error


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the campaign's cases alone, where a campaign or a replay is asked for."""
    if config.option.campaign is None and not config.option.replay:
        return
    chosen = [item for item in items if item.get_closest_marker("history")]
    if not chosen:
        raise pytest.UsageError("no case with the mark `history` is among those that were selected: see --campaign")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


class Histories:
    """What runs histories on this kernel."""

    def __init__(self, wire: Wire, load: LoadProgram, record: RecordProperty, config: pytest.Config) -> None:
        self._wire, self._record, self._option = wire, record, config.option
        self._programs = {program: load(program.value, size=SLOTS) for program in Program}

    def campaign(self, protocol: Protocol) -> None:
        """Search for a difference as the options say; fail with the shortest history that shows it."""
        if self._option.replay:
            saved = _read(self._option.replay)
            if saved.protocol is not protocol:
                pytest.skip(f"the history is one of {saved.protocol.upper()}")
            self.replay(*saved.steps, unknown=saved.unknown, protocol=protocol)
            return
        from harness.campaign.search import Search  # noqa: PLC0415  # hypothesis: a second under emulation

        run = self._run(self._option.unknown, protocol)
        search = Search(run, before=partial(_log, protocol))
        try:
            if self._option.campaign is None:
                search.derandomized(SHORT_EXAMPLES)
            else:
                search.for_seconds(self._option.campaign, number=self._option.seed or 0, database=_database())
        except KeyboardInterrupt:
            pytest.exit(self._interrupted(run, search.found), returncode=pytest.ExitCode.INTERRUPTED)
        if search.found is None:
            self._record(REACHED, _reached(run))
            return
        self._fail(run, *search.found, unknown=tuple(self._option.unknown))

    def replay(self, *steps: Step, unknown: tuple[str, ...] = (), protocol: Protocol = Protocol.UDP) -> None:
        """Run one history; fail where kernel and model part. The model is not told of the bugs in `unknown`."""
        from harness.campaign.history import DifferenceError  # noqa: PLC0415

        run = self._run([*unknown, *self._option.unknown], protocol)
        try:
            run.run(steps)
        except DifferenceError as difference:
            self._fail(run, steps[: difference.place], difference, unknown=(*unknown, *self._option.unknown))

    def _run(self, unknown: list[str] | tuple[str, ...], protocol: Protocol) -> Run:
        from harness.campaign.history import Run  # noqa: PLC0415

        migrates = protocol is Protocol.TCP and present("tcp_migrate_req")
        if migrates:
            self._wire.settings.set("net/ipv4/tcp_migrate_req", 1)
        return Run(self._wire, self._programs, behaviour_here(unknown), protocol=protocol, migrates=migrates)

    def _fail(
        self, run: Run, steps: tuple[Step, ...], difference: DifferenceError, *, unknown: tuple[str, ...]
    ) -> None:
        from harness.campaign.search import without_idle_steps  # noqa: PLC0415

        steps, difference = without_idle_steps(run, steps) or (steps, difference)
        saved = self._saved(run, steps, difference, unknown)
        self._record(HISTORY, saved.to_json())
        pytest.fail(_story(run, saved), pytrace=False)

    def _saved(self, run: Run, steps: tuple[Step, ...], difference: DifferenceError, unknown: tuple[str, ...]) -> Saved:
        from harness.campaign.probes import frame  # noqa: PLC0415
        from harness.campaign.saved import Saved  # noqa: PLC0415

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

    def _interrupted(self, run: Run, found: tuple[tuple[Step, ...], DifferenceError] | None) -> str:
        if found is None:
            return f"interrupted: no difference in {run.histories} histories, {run.steps} steps"
        saved = self._saved(run, *found, tuple(self._option.unknown))
        with suppress(OSError):
            keep(saved.to_json(), Path.cwd())
        return f"interrupted while it was made shorter:\n{_story(run, saved)}"


def behaviour_here(unknown: list[str] | tuple[str, ...] = ()) -> Behaviour:
    """Return what the running kernel does by the ledger; the bugs in `unknown` are left out."""
    here = running()
    known = {name for name, bug in bugs().items() if bug.state(here) is State.AFFECTED} - set(unknown)
    return behaviour((here.major, here.minor, here.patch), known)


@pytest.fixture
def histories(
    wire: Wire, load_for_test: LoadProgram, record_property: RecordProperty, pytestconfig: pytest.Config
) -> Iterator[Histories]:
    """Return what runs histories on this kernel."""
    with ExitStack() as undo:
        undo.callback(wire.send, ())
        undo.callback(wire.settings.restore)
        yield Histories(wire, load_for_test, record_property, pytestconfig)


class History(typing.Protocol):
    """A function that runs one history."""

    def __call__(self, *steps: Step, unknown: tuple[str, ...] = (), protocol: Protocol = Protocol.UDP) -> None:
        """Fail where kernel and model part; the model is not told of the bugs in `unknown`."""


@pytest.fixture
def history(histories: Histories) -> History:
    """Return the function that runs one history, as campaigns print it."""
    return histories.replay


def _log(protocol: Protocol, numbers: list[int]) -> None:
    """Write a history to the kernel's log of a VM: if the kernel dies in it, the console has it."""
    if path := os.environ.get(KERNEL_LOG):
        from harness.campaign.saved import log_line  # noqa: PLC0415

        with suppress(OSError), Path(path).open("wb", buffering=0) as log:
            log.write(f"<5>{log_line(protocol, numbers)}\n".encode())


def _database() -> Any:
    """Return hypothesis' database: what a campaign found is tried first by the next one, on this machine."""
    from hypothesis.database import DirectoryBasedExampleDatabase  # noqa: PLC0415
    from platformdirs import user_cache_path  # noqa: PLC0415

    return DirectoryBasedExampleDatabase(user_cache_path("reuseport-harness") / "histories")


def _story(run: Run, saved: Saved) -> str:
    lines = [saved.difference, "", f"Found in {run.histories} histories, {run.steps} steps. As a case to paste:", ""]
    lines += ["    " + line if line else "" for line in saved.as_case().splitlines()]
    if saved.frame:
        from harness.wire.scapy_layers import Ether, hexdump  # noqa: PLC0415

        lines += ["", "The packet:", str(hexdump(Ether(bytes.fromhex(saved.frame)), dump=True))]
    return "\n".join(lines)


def _reached(run: Run) -> dict[str, Any]:
    return {
        "kernel": str(running()),
        "protocol": str(run.protocol),
        "histories": run.histories,
        "steps": run.steps,
        "packets": run.packets,
        "seconds": run.seconds,
        "taken": dict(run.taken),
        "refused": dict(run.refused),
    }

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The options of campaigns, and what the campaigns of histories, pairs of them and packets have in common."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import KERNEL_LOG
from harness.kernel.ledger import State, bugs
from harness.kernel.release import running
from harness.model.life.behaviour import BY_BUG, behaviour

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.campaign.saved import Saved
    from harness.campaign.saved_packets import SavedPackets
    from harness.campaign.saved_pairs import SavedPair
    from harness.campaign.search import Search
    from harness.model.life.behaviour import Behaviour

SHORT_SECONDS = 1.0
"""What a campaign of the default run may take: three of them and two of `lives` are a tenth of what all cases take."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of campaigns."""
    group = parser.getgroup("histories", "histories and packets that hypothesis makes (docs/campaigns.md)")
    group.addoption(
        "--campaign",
        type=float,
        metavar="SECONDS",
        help="run the cases with the mark `history` alone, each for that long; what they try differs with --seed",
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
        help="run a history, a pair of histories or packets again: a file of results/histories/, or the console's log "
        "of a kernel that died",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that make no sense before any kernel is started; collect what campaigns find."""
    config.addinivalue_line("markers", "history: histories and packets that hypothesis makes (--campaign, --replay)")
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
        read_replay(option.replay)
        option.replay = str(Path(option.replay).resolve())  # a worker may run elsewhere


def read_replay(name: str) -> Saved | SavedPackets | SavedPair:
    """Read the file of `--replay`; UsageError says what is wrong with it."""
    from harness.campaign.files import read  # noqa: PLC0415

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


def search_as_told(search: Search[Any], option: Any, examples: int) -> dict[str, Any]:
    """Search as the options say; return, for the end of the run, how many of the short campaign's examples were run."""
    if option.campaign is None:
        search.derandomized(examples, seconds=SHORT_SECONDS)
        return {"tried": search.tried, "of": examples}
    search.for_seconds(option.campaign, number=option.seed or 0, database=_database())
    return {"tried": search.tried}


def behaviour_here(unknown: Iterable[str] = ()) -> Behaviour:
    """Return what the running kernel does by the ledger; the bugs in `unknown` are left out."""
    here = running()
    known = {name for name, bug in bugs().items() if bug.state(here) is State.AFFECTED} - set(unknown)
    return behaviour((here.major, here.minor, here.patch), known)


def log(lines: Iterable[str]) -> None:
    """Write lines to the kernel's log of a VM: if the kernel dies in what follows, the console has them."""
    if path := os.environ.get(KERNEL_LOG):
        with suppress(OSError), Path(path).open("wb", buffering=0) as kernel_log:
            for line in lines:
                kernel_log.write(f"<5>{line}\n".encode())


def _database() -> Any:
    """Return hypothesis' database: what a campaign found is tried first by the next one, on this machine."""
    from hypothesis.database import DirectoryBasedExampleDatabase  # noqa: PLC0415
    from platformdirs import user_cache_path  # noqa: PLC0415

    return DirectoryBasedExampleDatabase(user_cache_path("reuseport-harness") / "histories")


def story_of(saved: Saved | SavedPackets | SavedPair) -> str:
    """Return what a failed case says: the difference, how it was found, a case to paste, and the frames."""
    found = f"Found in {saved.searched}. As" if saved.searched else "As"
    lines = [saved.difference, "", f"{found} a case to paste:", ""]
    lines += ["    " + line if line else "" for line in saved.as_case().splitlines()]
    if saved.frames:
        from harness.wire.scapy_layers import Ether, hexdump  # noqa: PLC0415

        for frame in saved.frames:
            lines += ["", "The packet:", str(hexdump(Ether(bytes.fromhex(frame)), dump=True))]
    return "\n".join(lines)

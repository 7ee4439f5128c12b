# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ledger of kernel bugs: `ledger.toml`, and what it says about a release. It asks no kernel."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.kernel.release import Release

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = Path(__file__).with_name("ledger.toml")


class State(StrEnum):
    """Whether a release has a bug."""

    AFFECTED = "affected"
    FIXED = "fixed"
    NOT_APPLICABLE = "not applicable"
    """The release is older than the bug."""
    UNKNOWN = "unknown"
    """A later point release of the series has the fix, and it is not known which one brought it."""


@dataclass(frozen=True, kw_only=True)
class Bug:
    """One entry of the ledger; the heading of `ledger.toml` explains the fields."""

    name: str
    commit: str
    subject: str
    introduced: Release
    also: tuple[str, ...] = ()
    fixed: Release | None = None
    backports: tuple[Release, ...] = ()
    seen: tuple[Release, ...] = ()
    lacking: tuple[Release, ...] = ()
    tried: tuple[Release, ...] = ()
    race: bool = False
    unchecked: str = ""

    def state(self, release: Release) -> State:
        """Return whether a release has the bug."""
        if release < self.introduced:
            return State.NOT_APPLICABLE
        if self.fixed is not None and release >= self.fixed:
            return State.FIXED
        for first in self.backports:
            if first.series == release.series:
                return State.FIXED if release >= first else State.AFFECTED
        for first in self.seen:
            if first.series == release.series:
                return State.FIXED if release >= first else self._before_seen(release)
        return State.AFFECTED

    def _before_seen(self, release: Release) -> State:
        """Return whether a release has the bug that is older than one of its series that was seen to have the fix."""
        lacks = any(one.series == release.series and release <= one for one in self.lacking)
        return State.AFFECTED if lacks else State.UNKNOWN


@cache
def bugs() -> dict[str, Bug]:
    """Return the ledger by the bugs' names; ValueError names an entry that is not as the heading says, and why."""
    return {name: _bug(name, entry) for name, entry in tomllib.loads(PATH.read_text()).items()}


def _bug(name: str, entry: dict[str, Any]) -> Bug:
    keys = {item.name for item in fields(Bug)} - {"name"}
    if unknown := entry.keys() - keys:
        raise ValueError(f"{PATH.name}: {name} has {', '.join(sorted(unknown))}, which the ledger does not know")
    if lacking := _DEMANDED - entry.keys():
        raise ValueError(f"{PATH.name}: {name} lacks {', '.join(sorted(lacking))}")
    try:
        return Bug(name=name, **{key: _READ.get(key, _as_it_is)(value) for key, value in entry.items()})
    except ValueError as error:
        raise ValueError(f"{PATH.name}: {name}: {error}") from error


def _as_it_is(value: Any) -> Any:
    return value


def _releases(texts: list[str]) -> tuple[Release, ...]:
    return tuple(map(Release.parse, texts))


_DEMANDED = {"commit", "subject", "introduced"}
_READ: dict[str, Callable[[Any], Any]] = {
    "introduced": Release.parse,
    "fixed": Release.parse,
    "also": tuple,
    "backports": _releases,
    "seen": _releases,
    "lacking": _releases,
    "tried": _releases,
}

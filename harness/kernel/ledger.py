# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Know which kernels have which bugs: `ledger.toml`, and what it says of one release. No kernel is asked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from harness.kernel.release import Release

PATH = Path(__file__).with_name("ledger.toml")


class State(StrEnum):
    """Say how a release stands to a bug."""

    AFFECTED = "affected"
    FIXED = "fixed"
    NOT_APPLICABLE = "not applicable"
    """The release is older than what the bug is in."""
    UNKNOWN = "unknown"
    """A later point release of the series has the fix; nobody looked when it came."""


@dataclass(frozen=True, kw_only=True)
class Bug:
    """Hold one entry of the ledger."""

    name: str
    commit: str
    subject: str
    introduced: Release
    also: tuple[str, ...] = ()
    fixed: Release | None = None
    backports: tuple[Release, ...] = ()
    seen: tuple[Release, ...] = ()
    tried: tuple[Release, ...] = ()
    campaign: bool = False
    unchecked: str = ""

    def state(self, release: Release) -> State:
        """Return how a release stands to the bug."""
        if release < self.introduced:
            return State.NOT_APPLICABLE
        if self.fixed is not None and release >= self.fixed:
            return State.FIXED
        for carried, otherwise in ((self.backports, State.AFFECTED), (self.seen, State.UNKNOWN)):
            for first in carried:
                if first.series == release.series:
                    return State.FIXED if release >= first else otherwise
        return State.AFFECTED


@cache
def bugs() -> dict[str, Bug]:
    """Return the ledger by the bugs' names; ValueError or KeyError if an entry is not as its heading says."""
    entries = tomllib.loads(PATH.read_text())
    return {name: _bug(name, **entry) for name, entry in entries.items()}


def _bug(
    name: str,
    *,
    commit: str,
    subject: str,
    introduced: str,
    also: tuple[str, ...] = (),
    fixed: str = "",
    backports: tuple[str, ...] = (),
    seen: tuple[str, ...] = (),
    tried: tuple[str, ...] = (),
    campaign: bool = False,
    unchecked: str = "",
) -> Bug:
    return Bug(
        name=name,
        commit=commit,
        subject=subject,
        introduced=Release.parse(introduced),
        also=tuple(also),
        fixed=Release.parse(fixed) if fixed else None,
        backports=tuple(map(Release.parse, backports)),
        seen=tuple(map(Release.parse, seen)),
        tried=tuple(map(Release.parse, tried)),
        campaign=campaign,
        unchecked=unchecked,
    )

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the address of a distribution's archive in the machine's own apt sources."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

from vm.base.errors import MirrorError, OptionError
from vm.base.tools import find_tool

if TYPE_CHECKING:
    from vm.kernels.catalogue import Origin

_PART = re.compile(r"-(security|updates|backports|proposed-updates|proposed)$")


def demand_address(mirror: str) -> None:
    """Raise OptionError if `mirror`, as --mirror has it, is no address that apt can take."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*:/\S+", mirror):
        raise OptionError(
            f"--mirror {mirror!r} is no address: give one such as http://HOST/debian or file:///srv/debian "
            "(%20 for a blank)"
        )


def addresses(origin: Origin, *, mirror: str | None) -> tuple[str, str]:
    """Return the addresses of the archive and of its security updates: of `mirror`, or of the machine's apt sources.

    Needs no network. Raises MissingToolError, MirrorError.
    """
    if mirror is not None:
        main = mirror.rstrip("/")
        return main, main + origin.security
    # apt reads its sources itself, in either format; --print-uris downloads nothing and takes no lock.
    listed = subprocess.run(
        [find_tool("apt-get", package="apt"), "update", "--print-uris"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment(),
    ).stdout
    return bases_of(listed, origin)


def bases_of(listed: str, origin: Origin) -> tuple[str, str]:
    """Return the addresses of the archive and its security updates in what `apt-get update --print-uris` lists.

    A source belongs to the archive if it has one of its suites. Other archives name their suites after releases, too:
    of several sources the one with the most suites is taken. Raises MirrorError.
    """
    known = {_PART.sub("", suite) for suite in origin.suites} | origin.aliases
    found: dict[bool, dict[str, set[str]]] = {False: defaultdict(set), True: defaultdict(set)}
    for base, suite in re.findall(r"^'([^']+)/dists/(\S+)/InRelease'", listed, re.MULTILINE):
        release, _, part = suite.partition("-")
        release, _, old_part = release.partition("/")
        if release in known and not base.startswith("cdrom:"):
            # Until bullseye the security suites were called "buster/updates".
            found[part == "security" or old_part == "updates"][base].add(suite)
    # max() returns the first of the longest, and dictionaries keep the order of apt's sources.
    main, security = (max(bases, key=lambda base: len(bases[base]), default=None) for bases in found.values())
    if main is None:
        raise MirrorError(
            f"this machine's apt sources name no {origin.name} archive: name a mirror of it with --mirror ADDRESS, or "
            "use a kernel that is installed (--kernel running) or any other by its path (--kernel PATH)"
        )
    return main, security or main + origin.security


def environment() -> dict[str, str]:
    """Return apt's environment: messages in English, for they are parsed, and the machine's configuration."""
    kept = {name: value for name, value in os.environ.items() if name not in ("APT_CONFIG", "LANGUAGE")}
    return {**kept, "LC_ALL": "C.UTF-8"}

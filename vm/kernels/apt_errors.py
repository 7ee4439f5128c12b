# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn what apt says of a failure into an error that names the cause and the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vm.base.errors import DamagedListsError, FetchError, MirrorError, NotOfferedError, SignatureError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

_MEANINGS: tuple[tuple[str, type[FetchError], str], ...] = (
    # The first that matches counts: a fault of this machine may look like one of the mirror, so it comes first.
    (
        r"No space left on device|Disk quota exceeded",
        StoreError,
        "no space left under {root}: free some ('python -m vm prune' removes old versions), "
        "or point XDG_CACHE_HOME at another directory",
    ),
    (
        r"Permission denied|Read-only file system",
        StoreError,
        "{root} cannot be written: give this user the directory, or point XDG_CACHE_HOME at another directory",
    ),
    (
        r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|signatures? (?:was|were|couldn't|could not|verification)"
        r"|not signed|Clearsigned file isn't valid|Splitting up .* into data and signature failed",
        SignatureError,
        "the package lists of {mirror} are not signed by the archive's keys: they are not used. "
        "Bring the package {keyring_from} up to date, or name another --mirror",
    ),
    (
        r"Hash Sum mismatch|File has unexpected size|Writing more data than expected",
        SignatureError,
        "what {mirror} sent is not what its signed lists promise: it is not used. Try again, or name another --mirror",
    ),
    (
        r"LZ4F|Unexpected end of file|Splitting of clearsigned file|Unable to parse package file",
        DamagedListsError,
        "the package lists under {root}/lists are damaged: remove them, and they are downloaded again",
    ),
    (
        r"is (?:expired|not valid yet)|Release file .* (?:expired|not valid)",
        MirrorError,
        "the lists of {mirror} are out of date, or this machine's clock is wrong: set the clock, "
        "or name another --mirror",
    ),
    (
        r"does not have a Release file|no longer has a Release file|404 +Not Found|File not found"
        r"|Unable to locate package|No packages found|Version '.*' for '.*' was not found",
        NotOfferedError,
        "{mirror} does not have it",
    ),
    (
        r"Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|[Cc]onnection (?:timed out"
        r"|failed|refused)|Cannot initiate the connection|Network is unreachable|No route to host|Could not wait for",
        MirrorError,
        "{mirror} cannot be reached. Kernels in the store need no network ('python -m vm list'), nor do those that are "
        "installed (--kernel running); another mirror is named with --mirror",
    ),
    (
        r"Error reading from server|Connection reset|Undetermined Error|Bad header|503|502|500",
        MirrorError,
        "the connection to {mirror} broke. What was downloaded is kept: run the same command again",
    ),
)


def parse_apt_error(said: str, *, root: Path, mirror: str, keyring_from: str) -> FetchError:
    """Return the error for what apt said on its standard error, in English."""
    lines = [re.sub(r"^[EW]: ", "", line) for line in said.splitlines() if re.match("[EW]: ", line)]
    useful = [line for line in lines if not re.match("Some index files|Download Failed", line)]
    detail = useful[0] if useful else said.strip() or "apt gave no reason"
    for pattern, error, remedy in _MEANINGS:
        if re.search(pattern, said):
            reason = next((line for line in useful if re.search(pattern, line)), detail)
            return error(f"{remedy.format(root=root, mirror=mirror, keyring_from=keyring_from)} (apt: {reason})")
    return MirrorError(f"apt could not get what it was asked for from {mirror}: {detail}")

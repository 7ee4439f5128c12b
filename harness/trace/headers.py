# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the kernel headers that bcc compiles against, and the macros that tell a tracer what they have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.kernel.release import Release

_REUSEPORT, _DROPS = "include/net/sock_reuseport.h", "include/trace/events/skb.h"

_ASKED = (
    ("HAS_CLOSED", _REUSEPORT, "num_closed_socks"),
    ("HAS_REASON", _DROPS, "skb_drop_reason"),
)
"""Macro, file, word: the macro is defined if the word is in the file. The version says nothing: there are backports."""


@dataclass(frozen=True, kw_only=True)
class Headers:
    """The place of the headers and the macros for them; `source` is None where the kernel has its own (IKHEADERS)."""

    source: Path | None
    defines: tuple[str, ...]


def find(release: str | None = None) -> Headers | None:
    """Return the headers of a release (default: the running one), None if they are in none of bcc's places.

    The places are $BCC_KERNEL_SOURCE, /lib/modules/RELEASE/{source,build} and the kernel itself (bcc's
    `ClangLoader::parse`).
    """
    release = release or os.uname().release
    modules = Path("/lib/modules") / release
    given = os.environ.get("BCC_KERNEL_SOURCE")
    for place in (Path(given) if given else None, modules / "source", modules / "build"):
        if place is not None and (place / _REUSEPORT).is_file():
            return Headers(source=place, defines=_defines(place))
    if given is None and (_own_headers().exists() or (modules / "kernel/kernel/kheaders.ko").exists()):
        return Headers(source=None, defines=_defines_of_version(release))
    return None


def _own_headers() -> Path:
    return Path("/sys/kernel/kheaders.tar.xz")


def _defines(source: Path) -> tuple[str, ...]:
    return tuple(name for name, file, word in _ASKED if word in (source / file).read_text())


def _defines_of_version(release: str) -> tuple[str, ...]:
    introduced = {"HAS_CLOSED": Release(5, 14), "HAS_REASON": Release(5, 17)}
    return tuple(name for name, version in introduced.items() if Release.parse(release) >= version)

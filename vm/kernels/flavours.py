# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels that find more: what `python -m vm build --flavour` adds to a configuration. Pure but for reading it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTORY = Path(__file__).with_name("flavours")

FLAVOURS = {
    "kasan": "use of memory after it was freed, or beyond its end; undefined behaviour",
    "lockdep": "wrong locking, sleep in atomic context, objects freed while in use",
    "kmemleak": "memory that nothing points to any more",
    "gcov": "which lines of the reuseport code ran",
}
"""What a kernel of each flavour reports."""

COUNTED: dict[str, str] = {
    file: entry["functions"]
    for file, entry in tomllib.loads(Path(__file__).with_name("counted.toml").read_text()).items()
}
"""The files whose lines gcov counts; of each, which functions concern reuseport groups, as counted.toml has it."""


def fragment(flavours: Sequence[str]) -> str:
    """Return what the flavours add to a .config."""
    return "".join((_DIRECTORY / f"{flavour}.config").read_text() for flavour in dict.fromkeys(flavours))


def variables(flavours: Sequence[str]) -> list[str]:
    """Return the variables that make is given (Documentation/dev-tools/gcov.rst): the tree stays as it is."""
    # By the object's name alone: one variable for net/ipv4/udp.o and net/ipv6/udp.o.
    names = dict.fromkeys(Path(file).stem for file in COUNTED)
    return [f"GCOV_PROFILE_{name}.o=y" for name in names] if "gcov" in flavours else []


def missing(flavours: Sequence[str], config: str) -> list[str]:
    """Return the options of the flavours that a tree did not take into `config`, in their order."""
    wanted = re.findall(r"^(CONFIG_\w+)=(\S+)$", fragment(flavours), re.MULTILINE)
    there = dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", config, re.MULTILINE))
    return [f"{name}={value}" for name, value in wanted if value != "n" and there.get(name) != value]

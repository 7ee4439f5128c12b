# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read guest.toml: the modules and the options that a guest's kernel needs."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

_DATA = Path(__file__).with_name("guest.toml")


@dataclass(frozen=True, kw_only=True)
class WantedModule:
    """A module: its name, with underscores, and what it is for."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class WantedOption:
    """An option that a kernel's configuration must set."""

    name: str  # "CONFIG_NET_9P_VIRTIO"
    needed: Literal["boot", "cases", "some"]
    module: str | None  # the module of an option that is "m"
    builtin: bool  # it has no module form, or as a module it would come too late
    why: str  # what does not work without it


@dataclass(frozen=True, kw_only=True)
class MissingOption:
    """An option that a kernel's configuration lacks, and what does not work without it."""

    option: str  # "CONFIG_NET_9P_VIRTIO"
    why: str  # "the guest cannot reach the host's files"
    fatal: bool  # False: only a note

    def __str__(self) -> str:
        return f"{self.option}: {self.why}"


@cache
def wanted_modules() -> tuple[WantedModule, ...]:
    """Return the modules that a guest may need."""
    return tuple(
        WantedModule(name=name.replace("-", "_"), why=entry["why"])
        for entry in tomllib.loads(_DATA.read_text())["module"]
        for name in entry["names"]
    )


@cache
def wanted_options() -> tuple[WantedOption, ...]:
    """Return the options that a guest needs."""
    return tuple(
        WantedOption(
            name=entry["name"],
            needed=entry["needed"],
            module=entry.get("module"),
            builtin=entry.get("builtin", False),
            why=entry["why"],
        )
        for entry in tomllib.loads(_DATA.read_text())["option"]
    )


def modules_digest() -> str:
    """Return a short digest of the wanted modules' names: store entries with other modules are out of date."""
    names = "\n".join(sorted(module.name for module in wanted_modules()))
    return hashlib.sha256(names.encode()).hexdigest()[:12]


def missing_from(config: str, *, loadable: bool, modules: Collection[str] | None = None) -> list[MissingOption]:
    """Return what the text of a kernel's .config lacks, the fatal first.

    `loadable`: the kernel's modules are at hand; otherwise an option that is "m" counts as missing. So does one whose
    module is not among `modules`, unless that is None.
    """
    values = dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", config, re.MULTILINE))
    missing = []
    for wanted in wanted_options():
        value, why = values.get(wanted.name), wanted.why
        lost = modules is not None and wanted.module is not None and wanted.module not in modules
        if value == "y" or (value == "m" and loadable and not wanted.builtin and not lost):
            continue
        if value == "m" and wanted.builtin:
            why += " (as a module: it must be built in)"
        elif value == "m":
            what = f"{wanted.module} is not among the kernel's: install the package that has it"
            why += f" (a module, and {what if loadable else 'modules are not at hand'})"
        missing.append(MissingOption(option=wanted.name, why=why, fatal=wanted.needed != "some"))
    return sorted(missing, key=lambda option: not option.fatal)

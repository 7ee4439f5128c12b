# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness programs`: print the table of variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from harness.kernel.features import FEATURES
from harness.kernel.release import Release
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    import argparse

NAME = "programs"
HELP = "print the table of programs under bpf/"
DESCRIPTION = """\
Print the programs under bpf/ that the cases run: the name that --program takes, how each is attached, its maps, the
first kernel release that takes it, and how it selects a socket. Needs no root. Exit status: 0."""

_OLDEST = Release(5, 3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def run(_: argparse.Namespace) -> int:
    """Print one row a variant, as wide as it needs where no terminal limits it."""
    table = Table("program", "attached as", "maps", "from", "selects", caption=f"{len(VARIANTS)} programs")
    for variant in VARIANTS.values():
        table.add_row(
            variant.name,
            variant.attachment + (", migrating" if "select_or_migrate" in variant.requires else ""),
            ", ".join(variant.maps) or "-",
            str(max([_OLDEST, *(FEATURES[name].introduced for name in variant.requires)])),
            variant.decides,
        )
    console = Console()
    if not console.is_terminal:
        console.width = 240
    console.print(table)
    return 0

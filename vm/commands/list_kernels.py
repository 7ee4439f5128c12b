# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Show the kernels that a name stands for: python -m vm list."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vm import guest
from vm.commands.fetch import MIRROR_HELP
from vm.errors import FetchError, NotOfferedError, UnknownKernelError
from vm.kernels import archive_of, kernel_store, load_catalogue, select
from vm.progress import progress_on

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vm.archive import Archive
    from vm.catalogue import Catalogue, Series

_COLUMNS = ("name", "newest", "cached", "headers", "size")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold what is known of one kernel."""

    name: str
    default: bool
    newest: str  # in the package lists at hand
    cached: str | None  # the newest version in the store
    headers: bool  # in the store
    size: int  # bytes on disk if cached, else to download; 0 unknown

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row, in the order of the columns."""
        size = f"{self.size / 1e6:.0f} MB" if self.size else "-"
        return (
            f"{self.name} *" if self.default else self.name,
            self.newest,
            self.cached or "-",
            ("yes" if self.headers else "no") if self.cached else "-",
            size if self.cached or not self.size else f"{size} to fetch",
        )


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `list`."""
    parser = subparsers.add_parser(
        "list",
        help="show the kernels, the newest version of each, and which are in the store",
        description="Show the kernels that --kernel takes by name; * marks the default. Package lists older than six "
        "hours are brought up to date; without network, what was known last is shown. 'incomplete': of every version "
        "the archive has lost a package.",
    )
    parser.add_argument("--mirror", metavar="ADDRESS", help=MIRROR_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    catalogue = load_catalogue()
    with progress_on(sys.stderr) as progress:
        rows, stale = collect(catalogue, mirror=args.mirror, progress=progress)
    if sys.stdout.isatty():
        table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*row.cells, style=None if row.cached else "dim")
        Console().print(table)
    else:
        lines = [_COLUMNS, *(row.cells for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if stale is not None:
        print(f"note: shown as it was known last, for {stale}", file=sys.stderr)
    return 0


def collect(
    catalogue: Catalogue, *, mirror: str | None, progress: Callable[[str], None]
) -> tuple[list[Row], FetchError | None]:
    """Return a row for each kernel of `catalogue`, and why the package lists could not be brought up to date."""
    store = kernel_store()
    try:
        default = {selection.name for selection in select([], catalogue=catalogue)}
    except UnknownKernelError:  # a machine whose distribution has no kernel here has no default either
        default = set()
    rows = []
    stale: FetchError | None = None
    origin = next(iter(catalogue.series.values())).origin
    archive = archive_of(origin, mirror=mirror)
    progress("reading the package lists")
    for series in catalogue.series.values():
        if stale is None:
            try:
                archive.refresh(series.suites, progress=progress)
            except FetchError as error:
                stale = error
        newest, download = _newest(archive, series)
        entry = store.newest(series.name, modules=guest.modules_digest())
        rows.append(
            Row(
                name=series.name,
                default=series.name in default,
                newest=newest,
                cached=entry.manifest.version if entry else None,
                headers=entry is not None and entry.manifest.headers,
                size=entry.size if entry else download,
            )
        )
    return rows, stale


def _newest(archive: Archive, series: Series) -> tuple[str, int]:
    """Return what to show as the newest version of `series` in the lists at hand, and the bytes to download."""
    try:
        offer = archive.newest(series=series.series, flavour=series.flavour, suites=series.suites)
    except NotOfferedError:
        return "incomplete", 0
    except FetchError:
        return "?", 0
    return (offer.version, offer.size) if offer else ("?", 0)

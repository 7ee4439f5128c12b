# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Show the kernels that a name stands for: python -m vm list."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vm.base.errors import FetchError, KernelError, NotOfferedError, UnknownKernelError
from vm.base.progress import progress_on
from vm.commands.fetch import MIRROR_HELP
from vm.kernels import requirements
from vm.kernels.catalogue import RUNNING, load_catalogue
from vm.kernels.entries import kernel_store
from vm.kernels.installed import find_installed
from vm.kernels.obtain import archive_of, select

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vm.kernels.archive import Archive
    from vm.kernels.catalogue import Catalogue, Series

_COLUMNS = ("name", "newest", "cached", "headers", "size")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known about one kernel."""

    name: str
    default: bool
    newest: str  # in the package lists at hand; of the installed kernel its release
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
        description="Show the kernels that --kernel takes by name; * marks the default, and running is the installed "
        "kernel. Package lists older than six hours are brought up to date; without network, what was known last is "
        "shown. 'incomplete': the archive no longer has all packages of any version; '?': it has none. Kernels of an "
        "archive that this machine's apt sources do not name are shown if they are in the store.",
    )
    parser.add_argument("--mirror", metavar="ADDRESS", help=MIRROR_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    catalogue = load_catalogue()
    with progress_on(sys.stderr) as progress:
        rows, notes = collect(catalogue, mirror=args.mirror, progress=progress)
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
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def collect(
    catalogue: Catalogue, *, mirror: str | None, progress: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Return a row for each kernel that can be fetched or is installed, and notes on archives that cannot be read."""
    try:
        default = {selection.name for selection in select([], catalogue=catalogue, mirror=mirror)}
    except UnknownKernelError:
        default = set()
    notes = []
    progress("reading the package lists")
    rows: dict[str, Row] = {}
    for origin in dict.fromkeys(series.origin for series in catalogue.series.values()):
        of_origin = [series for series in catalogue.series.values() if series.origin == origin]
        archive = archive_of(origin, mirror=mirror)
        try:
            archive.demand_source()
        except FetchError as error:
            cached = [series for series in of_origin if _in_store(series)]
            rows |= {series.name: _row(series, None, default=default) for series in cached}
            without = ", ".join(series.name for series in of_origin if series not in cached)
            notes.append(f"without {without}: {error}")
            continue
        stale = _refresh(archive, of_origin, progress=progress)
        if stale is not None:
            notes.append(f"the list may be old, for {stale}")
        rows |= {series.name: _row(series, archive, default=default) for series in of_origin}
    shown = [rows[name] for name in catalogue.series if name in rows]
    try:
        shown.append(_row_of_installed(default=default))
    except KernelError as error:
        notes.append(f"without {RUNNING}: {error}")
    return shown, notes


def _refresh(archive: Archive, kernels: list[Series], *, progress: Callable[[str], None]) -> FetchError | None:
    """Bring the lists of `kernels` up to date; return the error that stopped it, None if there was none."""
    missing: NotOfferedError | None = None
    found = False
    for series in kernels:
        try:
            archive.refresh(series.suites, progress=progress)
            found = True
        except NotOfferedError as error:  # the archive may still have other series
            missing = error
        except FetchError as error:
            return error
    return None if found else missing


def _in_store(series: Series) -> bool:
    return kernel_store().newest(series.name, modules=requirements.modules_digest()) is not None


def _row(series: Series, archive: Archive | None, *, default: set[str]) -> Row:
    newest, download = ("-", 0) if archive is None else _newest(archive, series)
    entry = kernel_store().newest(series.name, modules=requirements.modules_digest())
    return Row(
        name=series.name,
        default=series.name in default,
        newest=newest,
        cached=entry.manifest.version if entry else None,
        headers=entry is not None and entry.manifest.headers,
        size=entry.size if entry else download,
    )


def _row_of_installed(*, default: set[str]) -> Row:
    newest = find_installed(platform.release()).release
    return Row(name=RUNNING, default=RUNNING in default, newest=newest, cached=None, headers=False, size=0)


def _newest(archive: Archive, series: Series) -> tuple[str, int]:
    """Return what to show as the newest version of `series` in the lists at hand, and the bytes to download."""
    try:
        offer = archive.newest(series=series.series, flavour=series.flavour, suites=series.suites)
    except NotOfferedError:
        return "incomplete", 0
    except FetchError:
        return "?", 0
    return (offer.version, offer.size) if offer else ("?", 0)

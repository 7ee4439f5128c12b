# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read kernels.toml and resolve the words that a user has for kernels. Nothing here touches the network."""

from __future__ import annotations

import fnmatch
import platform
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.errors import UnknownKernelError
from vm.local import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_DATA = Path(__file__).with_name("kernels.toml")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Hold what all series of a catalogue share: the archive that they come from."""

    keyrings: tuple[Path, ...]  # the first that exists is used
    suites: frozenset[str]  # all suites that the catalogue names


@dataclass(frozen=True, kw_only=True)
class Series:
    """Hold one entry of kernels.toml: where the archive keeps a stable series."""

    name: str
    series: str  # "6.12": what the package's version begins with
    flavour: str  # "amd64": what the package's name ends with
    suites: tuple[str, ...]
    distribution: str | None  # codename of the release whose own kernel this is
    matrix: bool  # False: only by its exact name
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Hold one kernel that the user asked for, checked but not yet fetched."""

    name: str  # unique within what one `select` returns
    source: Series | Path


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Hold kernels.toml."""

    default: tuple[str, ...]
    series: Mapping[str, Series]

    @property
    def words(self) -> list[str]:
        """Return every word that `select` takes besides patterns and paths."""
        return [*self.series, "all", "default", "distribution"]


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read `path`, or the kernels.toml of this project."""
    data = tomllib.loads((path or _DATA).read_text())
    entries = data["kernel"]
    origin = Origin(
        keyrings=tuple(Path(keyring) for keyring in data["archive"]["keyrings"]),
        suites=frozenset(suite for entry in entries.values() for suite in entry["suites"]),
    )
    return Catalogue(
        default=tuple(data["default"]),
        series={
            name: Series(
                name=name,
                series=entry.get("series", name),
                flavour=entry.get("flavour", "amd64"),
                suites=tuple(entry["suites"]),
                distribution=entry.get("distribution"),
                matrix=entry.get("matrix", True),
                origin=origin,
            )
            for name, entry in entries.items()
        },
    )


def select(words: Sequence[str], *, catalogue: Catalogue) -> list[Selection]:
    """Resolve `words` ("6.1", "6.*", "all", "default", "distribution", a path) in order, each kernel once.

    No words are the default. Needs no network. Raises UnknownKernelError, and for paths NotAKernelError and
    TooOldError.
    """
    sources: dict[Series | Path, None] = {}
    for word in words or ["default"]:
        sources.update(dict.fromkeys(_resolve(word, catalogue)))
    taken = {source.name for source in sources if isinstance(source, Series)}
    selections = []
    for source in sources:
        name = source.name if isinstance(source, Series) else _name_of(source, taken)
        taken.add(name)
        selections.append(Selection(name=name, source=source))
    return selections


def _resolve(word: str, catalogue: Catalogue) -> Iterator[Series | Path]:
    matrix = {name: series for name, series in catalogue.series.items() if series.matrix}
    if word in catalogue.series:
        yield catalogue.series[word]
    elif word == "all":
        yield from matrix.values()
    elif word == "default":
        for one in catalogue.default:
            yield from _resolve(one, catalogue)
    elif word == "distribution":
        yield _of_distribution(catalogue)
    elif "/" in word or Path(word).exists():
        path = Path(word).expanduser().absolute()
        locate(path)  # for what it raises
        yield path
    else:
        found = [series for name, series in matrix.items() if fnmatch.fnmatchcase(name, word)]
        if not found:
            raise UnknownKernelError(
                f"no kernel is called {word!r}. There are {', '.join(catalogue.words)}; "
                "a pattern such as '6.*'; or a path to a bzImage, an unpacked package or a kernel tree"
            )
        yield from found


def _of_distribution(catalogue: Catalogue) -> Series:
    """Return the running distribution's own series, by os-release(5)."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {"PRETTY_NAME": "a system without os-release"}
    codename = release.get("VERSION_CODENAME", "")
    for series in catalogue.series.values():
        if series.distribution is not None and series.distribution == codename:
            return series
    raise UnknownKernelError(
        f"'distribution' stands for the distribution's own kernel, and the catalogue has none for "
        f"{release.get('PRETTY_NAME', codename)}: choose by name (--kernel "
        f"{next(iter(catalogue.series))}, ...) or give a path (--kernel /boot/vmlinuz-...)"
    )


def _name_of(path: Path, taken: set[str]) -> str:
    """Return a short name for `path` that can be a directory's, lengthened by its parents until it is its own."""
    parts = [part for part in path.parts if part != "/"] or ["kernel"]
    for count in range(1, len(parts) + 1):
        name = re.sub(r"[^\w.+-]+", "_", "-".join(parts[-count:]))
        if name not in taken:
            return name
    return f"{name}-{len(taken)}"

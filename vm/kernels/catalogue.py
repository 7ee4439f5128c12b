# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read kernels.toml, and resolve the words by which users name kernels. No network is needed."""

from __future__ import annotations

import fnmatch
import os
import platform
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import KernelError, UnknownKernelError
from vm.kernels.installed import Installed, find_installed
from vm.kernels.local import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_DATA = Path(__file__).with_name("kernels.toml")

RUNNING = "running"
"""The word for the installed kernel, and its name in results."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A distribution's archive: what all series that come from it share."""

    name: str  # "Debian"
    keyrings: tuple[Path, ...]  # the first that exists is used
    keyring_from: str  # the package that has one
    suites: frozenset[str]  # all suites that the catalogue names
    aliases: frozenset[str]  # other names of suites
    security: str  # what a mirror's address is continued with for security updates: "-security", or ""
    kinds: tuple[str, ...]  # a kernel's packages are called linux-<kind>-<release>; the image's kind is the first
    extra: tuple[str, ...]  # kinds that nothing depends on, taken where there are such


@dataclass(frozen=True, kw_only=True)
class Series:
    """An entry of kernels.toml: where the archive has a stable series."""

    name: str
    series: str  # "6.12": what the package's version begins with
    flavour: str  # "amd64", "generic": what the package's name ends with
    suites: tuple[str, ...]
    distribution: str | None  # codename of the release whose own kernel this is
    matrix: bool  # False: only by its exact name
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One kernel that the user asked for: it exists, and may have to be fetched."""

    name: str  # unique among those that one `select` returns
    source: Series | Path | Installed

    @property
    def word(self) -> str:
        """Return the word that selects this kernel alone, on another machine too if it has the same files."""
        return str(self.source) if isinstance(self.source, Path) else _fixed_name(self.source)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The content of kernels.toml."""

    default: tuple[str, ...]  # the first of these that can be used counts
    series: Mapping[str, Series]

    @property
    def words(self) -> list[str]:
        """Return every word that `select` takes besides patterns and paths."""
        return [*self.series, "all", "default", "distribution", RUNNING]


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read `path`, or the kernels.toml of this project."""
    data = tomllib.loads((path or _DATA).read_text())
    entries = data["kernel"]
    origins = {
        name: Origin(
            name=archive["name"],
            keyrings=tuple(Path(keyring) for keyring in archive["keyrings"]),
            keyring_from=archive["keyring_from"],
            suites=frozenset(
                suite for entry in entries.values() if _archive_of(entry) == name for suite in entry["suites"]
            ),
            aliases=frozenset(archive["aliases"]),
            security=archive["security"],
            kinds=tuple(archive["kinds"]),
            extra=tuple(archive.get("extra", ())),
        )
        for name, archive in data["archive"].items()
    }
    return Catalogue(
        default=tuple(data["default"]),
        series={
            name: Series(
                name=name,
                series=entry.get("series", name),
                flavour=entry.get("flavour", data["archive"][_archive_of(entry)]["flavour"]),
                suites=tuple(entry["suites"]),
                distribution=entry.get("distribution"),
                matrix=entry.get("matrix", True),
                origin=origins[_archive_of(entry)],
            )
            for name, entry in entries.items()
        },
    )


def _archive_of(entry: Mapping[str, str]) -> str:
    return entry.get("archive", "debian")


def select(
    words: Sequence[str], *, catalogue: Catalogue, obstacle: Callable[[Series], str] = lambda _series: ""
) -> list[Selection]:
    """Resolve `words` ("6.1", "6.*", "all", "default", "distribution", "running", a path) in order, each kernel once.

    Without words the first word of catalogue.default counts whose kernels can be used: `obstacle` returns why a series
    cannot, or "". Raises UnknownKernelError, and for paths and installed kernels NotAKernelError and TooOldError.
    """
    sources: dict[Series | Path | Installed, None] = {}
    for word in words or ["default"]:
        sources.update(dict.fromkeys(_resolve(word, catalogue, obstacle)))
    taken = {_fixed_name(source) for source in sources if not isinstance(source, Path)}
    selections = []
    for source in sources:
        name = _name_of(source, taken) if isinstance(source, Path) else _fixed_name(source)
        taken.add(name)
        selections.append(Selection(name=name, source=source))
    return selections


def _fixed_name(source: Series | Installed) -> str:
    return source.name if isinstance(source, Series) else RUNNING


def _resolve(word: str, catalogue: Catalogue, obstacle: Callable[[Series], str]) -> Iterator[Series | Path | Installed]:
    matrix = {name: series for name, series in catalogue.series.items() if series.matrix}
    if word in catalogue.series:
        yield catalogue.series[word]
    elif word == "all":
        yield from matrix.values()
    elif word == "default":
        yield from _resolve(_default(catalogue, obstacle), catalogue, obstacle)
    elif word == "distribution":
        yield _of_distribution(catalogue)
    elif word == RUNNING:
        yield find_installed(platform.release())
    elif "/" in word or (word and os.path.exists(word)):  # noqa: PTH110  # pathlib's raises for a name that is too long
        path = Path(os.path.expanduser(word)).absolute()  # noqa: PTH111  # pathlib's raises for an unknown user
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


def _default(catalogue: Catalogue, obstacle: Callable[[Series], str]) -> str:
    """Return the first word of the default whose kernels can be used."""
    obstacles = []
    for word in catalogue.default:
        try:
            sources = list(_resolve(word, catalogue, obstacle))
        except KernelError as error:
            obstacles.append(str(error))
            continue
        against = next((why for one in sources if isinstance(one, Series) and (why := obstacle(one))), "")
        if not against:
            return word
        obstacles.append(against)
    raise UnknownKernelError(f"no default kernel can be used here, so name one with --kernel: {'; '.join(obstacles)}")


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
        f"{release.get('PRETTY_NAME', codename)}: take the installed one (--kernel running), choose by name "
        f"(--kernel {next(iter(catalogue.series))}, ...) or give a path (--kernel PATH)"
    )


def _name_of(path: Path, taken: set[str]) -> str:
    """Return a short name for `path`, fit for a directory: as many of its last parts as make it differ from `taken`."""
    parts = [part for part in path.parts if part != "/"] or ["kernel"]
    for count in range(1, len(parts) + 1):
        name = re.sub(r"[^\w.+-]+", "_", "-".join(parts[-count:]))
        if name not in taken:
            return name
    return f"{name}-{len(taken)}"

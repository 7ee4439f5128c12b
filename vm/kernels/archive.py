# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Look kernels up in a distribution's signed archive, and download them.

apt does the work: mirrors, proxies, signatures, interrupted downloads, digests (`vm.kernels.apt`).
"""

from __future__ import annotations

import functools
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import NotOfferedError, SignatureError
from vm.kernels.apt import Apt
from vm.kernels.offers import Offer, Package, newest_offer, read_packages
from vm.kernels.store import translate_oserror

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vm.kernels.catalogue import Origin

LISTS_GOOD_FOR = 6 * 3600
"""Seconds after which package lists are downloaded again."""

_CLOCKS_DIFFER_BY = 60
"""Seconds. Another machine, whose clock differs, may have written the same cache."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive, at `mirror` or where the machine's apt sources point; apt's files for it are in `root`."""

    root: Path
    origin: Origin
    mirror: str | None = None

    @functools.cached_property
    def _apt(self) -> Apt:
        return Apt(root=self.root, origin=self.origin, mirror=self.mirror)

    def demand_source(self) -> None:
        """Check, without network, that kernels can be fetched from here. Raises MissingToolError, MirrorError."""
        self._apt.demand_usable()

    def refresh(
        self, suites: Sequence[str], *, progress: Callable[[str], None], max_age: float = LISTS_GOOD_FOR
    ) -> bool:
        """Download the package lists of `suites` that are older than `max_age` seconds; return whether any were.

        A suite that the mirror lacks is an error only if it lacks all of them. Raises FetchError's subclasses.
        """
        downloaded = False
        with translate_oserror(self.root), self._apt.locked(progress):
            missing = []
            for suite in suites:
                stamp = self._stamp(suite)
                if _age(stamp) <= max_age:
                    continue
                progress(f"downloading the package lists of {suite}")
                downloaded = True
                try:
                    self._apt.run("apt-get", "update", "-q", suites=[suite])
                except NotOfferedError as error:
                    missing.append(error)
                    self._forget(suite)
                    continue
                stamp.parent.mkdir(parents=True, exist_ok=True)
                stamp.touch()
                Archive._kernel_packages.cache_clear()
            if len(missing) == len(suites):
                raise missing[0]
        return downloaded

    def forget(self, suites: Sequence[str], *, progress: Callable[[str], None]) -> None:
        """Remove the package lists of `suites`, so that `refresh` downloads them whatever their age.

        Raises StoreError.
        """
        with translate_oserror(self.root), self._apt.locked(progress):
            for suite in suites:
                self._forget(suite)
            Archive._kernel_packages.cache_clear()

    def newest(self, *, series: str, flavour: str, suites: Sequence[str]) -> Offer | None:
        """Return the newest kernel of `series` in the downloaded lists, None if there is none. Needs no network.

        Raises NotOfferedError if every kernel there lacks a package.
        """
        return newest_offer(self._kernel_packages(tuple(suites)), self.origin, series=series, flavour=flavour)

    def download(
        self, offer: Offer, into: Path, *, suites: Sequence[str], progress: Callable[[int], None]
    ) -> tuple[list[Path], list[Path]]:
        """Download the packages of `offer` to `into` and return their files: the image's and the headers'.

        A download that was interrupted continues with what it left in `into`. `progress` is called with the
        percentage. Raises FetchError's subclasses.
        """
        with translate_oserror(self.root):
            into.mkdir(parents=True, exist_ok=True)
            files = self._locate((*offer.image, *offer.headers), suites)
            begun = any(into.iterdir())
            try:
                self._fetch(files, into, suites=suites, progress=progress)
            except SignatureError:
                # The part from an earlier run may be damaged, by a full disk for example: start again without it.
                if not begun:
                    raise
                for left in into.iterdir():
                    left.unlink()
                self._fetch(files, into, suites=suites, progress=progress)
            paths = [into / file.name for file in files]
            return paths[: len(offer.image)], paths[len(offer.image) :]

    def _locate(self, packages: Sequence[Package], suites: Sequence[str]) -> list[_Remote]:
        """Return where the files of `packages` are, in the same order."""
        # In an empty directory: apt prints no URI for a file that is already there.
        with tempfile.TemporaryDirectory(dir=self.root) as empty:
            listed = self._apt.run(
                "apt-get",
                "download",
                "--print-uris",
                *(f"{package.name}={package.version}" for package in packages),
                suites=suites,
                cwd=Path(empty),
            )
        # 'URI' filename size hash
        found = re.findall(r"^'([^']+)' (\S+) \d+ (\S+)$", listed, re.MULTILINE)
        files = {name.split("_")[0]: _Remote(uri=uri, name=name, digest=digest) for uri, name, digest in found}
        return [files[package.name] for package in packages]

    def _fetch(
        self, files: Sequence[_Remote], into: Path, *, suites: Sequence[str], progress: Callable[[int], None]
    ) -> None:
        # `apt-get download` always begins at the first byte; apt-helper continues a file that is there.
        arguments = [word for file in files for word in (file.uri, str(into / file.name), file.digest)]
        self._apt.run("apt-helper", "download-file", *arguments, suites=suites, progress=progress)

    @functools.cache  # noqa: B019  # a process has one or two archives, and `refresh` empties the cache
    def _kernel_packages(self, suites: tuple[str, ...]) -> dict[str, Package]:
        """Return the newest version of every package that a kernel is made of, by name."""
        if not any((self.root / "lists").glob("*_Packages*")):
            return {}
        with translate_oserror(self.root):
            kinds = "|".join((*self.origin.kinds, *self.origin.extra, "headers"))
            pattern = rf"^linux-({kinds})-[0-9]"
            return read_packages(self._apt.run("apt-cache", "search", "--full", "--names-only", pattern, suites=suites))

    def _stamp(self, suite: str) -> Path:
        return self.root / "stamps" / f"{suite}-{self._apt.source_key(suite)}"

    def _forget(self, suite: str) -> None:
        """Remove the lists of a suite: apt would go on offering packages that the mirror no longer has."""
        self._stamp(suite).unlink(missing_ok=True)
        for listing in (self.root / "lists").glob(f"*_dists_{suite}_*"):
            listing.unlink()


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """A file to download."""

    uri: str
    name: str  # of the downloaded file
    digest: str  # that it must have, as apt-helper takes it: "SHA256:…"


def _age(stamp: Path) -> float:
    """Return the seconds since a file was written, infinity if there is none or the clock has been set back."""
    try:
        age = time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    return age if age > -_CLOCKS_DIFFER_BY else float("inf")

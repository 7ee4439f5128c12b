# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fetch a series' newest kernel from its archive into the store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from vm.base.errors import DamagedListsError, FetchError, NotAKernelError, NotOfferedError, SignatureError
from vm.kernels import requirements
from vm.kernels.entries import take_modules
from vm.kernels.image import read_release
from vm.kernels.store import Entry, Manifest, Store, seal
from vm.kernels.unpack import unpack_headers, unpack_kernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vm.kernels.archive import Archive
    from vm.kernels.catalogue import Series
    from vm.kernels.offers import Offer


def fetch(series: Series, archive: Archive, store: Store, *, progress: Callable[[str], None]) -> Entry:
    """Return the newest kernel of `series` in `store`, downloaded from `archive` if it is not there.

    The caller has locked the series' name. `progress` is called as `obtain` says. Raises FetchError's subclasses,
    NotAKernelError.
    """

    def say(line: str) -> None:
        progress(f"{series.name}: {line}")

    offer = _look_up(series, archive, progress=say)
    known = store.newest(series.name, modules=requirements.modules_digest())
    if known is not None and known.manifest.version == offer.version:
        return known
    downloads = archive.root / "archives" / series.name
    try:
        image, headers = archive.download(offer, downloads, suites=series.suites, progress=_downloading(offer, say))
    except (NotOfferedError, SignatureError, DamagedListsError):
        # The mirror has newer packages than the lists say, or the lists are damaged.
        archive.forget(series.suites, progress=say)
        offer = _look_up(series, archive, progress=say)
        image, headers = archive.download(offer, downloads, suites=series.suites, progress=_downloading(offer, say))
    if not headers:
        say("the mirror has no headers of this version: there will be no witness, which bcc compiles against them")
    say(f"unpacking {offer.version}")
    with store.staging(series.name, offer.version) as stage:
        _install(stage, version=offer.version, packages=image, headers=headers)
    shutil.rmtree(downloads, ignore_errors=True)
    entry = store.newest(series.name, modules=requirements.modules_digest())
    assert entry is not None
    return entry


def _look_up(series: Series, archive: Archive, *, progress: Callable[[str], None]) -> Offer:
    """Return the newest kernel of `series`. Raises FetchError's subclasses."""
    new = archive.refresh(series.suites, progress=progress)
    try:
        return _newest(series, archive)
    except FetchError as error:
        if new:
            raise
        # The lists are from an earlier run, and may be damaged or too old.
        progress(f"reading the package lists again: {error}")
        archive.forget(series.suites, progress=progress)
        archive.refresh(series.suites, progress=progress)
        return _newest(series, archive)


def _newest(series: Series, archive: Archive) -> Offer:
    offer = archive.newest(series=series.series, flavour=series.flavour, suites=series.suites)
    if offer is None:
        raise NotOfferedError(
            f"the mirror has no kernel {series.name} (looked in {', '.join(series.suites)}): 'python -m vm list' "
            "shows those that it has"
        )
    return offer


def _downloading(offer: Offer, say: Callable[[str], None]) -> Callable[[int], None]:
    megabytes = round(offer.size / 1e6)
    said = -1

    def moved_on(percent: int) -> None:
        nonlocal said
        if percent // 10 > said // 10:
            said = percent
            say(f"downloading {offer.version}, {percent} % of {megabytes} MB")

    return moved_on


def _install(stage: Path, *, version: str, packages: list[Path], headers: list[Path]) -> None:
    """Unpack the packages into `stage`, in the layout of a store entry (`vm.kernels.store`)."""
    whole = stage / "whole"
    unpack_kernel(packages, whole)
    if not (whole / "vmlinuz").is_file():
        raise NotAKernelError(f"the packages of {version} hold no kernel image: {', '.join(p.name for p in packages)}")
    if headers:
        unpack_headers(headers, stage / "headers")
    release = read_release(whole / "vmlinuz")
    for name in ("vmlinuz", "config"):
        if (whole / name).is_file():
            (whole / name).rename(stage / name)
    take_modules(whole / "lib/modules" / release, stage, release)
    if headers:
        (stage / "lib/modules" / release / "build").symlink_to("../../../headers")
    shutil.rmtree(whole)
    manifest = Manifest(release=release, version=version, headers=bool(headers), modules=requirements.modules_digest())
    seal(stage, manifest)

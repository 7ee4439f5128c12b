# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn a user's word for a kernel into a kernel that can boot.

select(words)       words -> selections: checked, without network
obtain(selection)   selection -> Kernel: from the store, or fetched into it
update(selection)   selection -> Kernel: the newest that the archive has
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import FetchError
from vm.base.paths import cache_root
from vm.kernels import catalogue as catalogues
from vm.kernels import contents, requirements
from vm.kernels.adopted import from_installed, from_located
from vm.kernels.archive import Archive
from vm.kernels.catalogue import Catalogue, Origin, Selection, Series
from vm.kernels.entries import kernel_of, kernel_store
from vm.kernels.fetched import fetch
from vm.kernels.installed import Installed
from vm.kernels.local import locate
from vm.kernels.sources import demand_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vm.kernels.kernel import Kernel
    from vm.kernels.store import Store


def select(words: Sequence[str], *, catalogue: Catalogue, mirror: str | None = None) -> list[Selection]:
    """Resolve `words` as the catalogue does; the default is the first that can be used, from `mirror` if given.

    Raises OptionError for a mirror that is no address, and what the catalogue raises.
    """
    if mirror is not None:
        demand_address(mirror)
    return catalogues.select(words, catalogue=catalogue, obstacle=lambda series: _obstacle(series, mirror=mirror))


def obtain(selection: Selection, *, progress: Callable[[str], None], mirror: str | None = None) -> Kernel:
    """Return the kernel of `selection`, fetching it first when it is not in the store.

    A kernel in the store needs no network and may not be the newest: `update` looks. `progress` is called with a short
    line for each step that takes long. Several processes may call this at once. Raises FetchError's subclasses,
    NotAKernelError and TooOldError.
    """
    match selection.source:
        case Path() as path:
            return from_located(selection.name, locate(path), progress=progress)
        case Installed() as installed:
            return from_installed(selection.name, installed, progress=progress)
    store, archive = kernel_store(), archive_of(selection.source.origin, mirror=mirror)
    entry = store.newest(selection.name, modules=requirements.modules_digest())
    if entry is None or contents.damage(entry.path):
        with store.locked(selection.name, progress=progress):
            damaged = _discard_damaged(selection.name, store, progress=progress)
            # Another run may have fetched it while this one waited.
            entry = store.newest(selection.name, modules=requirements.modules_digest())
            if entry is None:
                with _naming_the_damage(damaged):
                    entry = fetch(selection.source, archive, store, progress=progress)
    return kernel_of(selection.name, entry, version=entry.manifest.version)


def update(selection: Selection, *, progress: Callable[[str], None], mirror: str | None = None) -> Kernel:
    """Return the newest kernel that the archive has for `selection`, fetching it if the store's is older.

    Raises as `obtain` does.
    """
    if not isinstance(selection.source, Series):
        return obtain(selection, progress=progress)
    store, archive = kernel_store(), archive_of(selection.source.origin, mirror=mirror)
    with store.locked(selection.name, progress=progress):
        _discard_damaged(selection.name, store, progress=progress)
        entry = fetch(selection.source, archive, store, progress=progress)
    return kernel_of(selection.name, entry, version=entry.manifest.version)


def archive_of(origin: Origin, *, mirror: str | None = None) -> Archive:
    """Return the archive that a catalogue's series come from."""
    return Archive(root=cache_root() / "apt", origin=origin, mirror=mirror)


def _obstacle(series: Series, *, mirror: str | None) -> str:
    """Return why `series` cannot be fetched on this machine, "" if no reason is known. Needs no network."""
    if kernel_store().newest(series.name, modules=requirements.modules_digest()) is not None:
        return ""
    try:
        archive_of(series.origin, mirror=mirror).demand_source()
    except FetchError as error:
        return str(error)
    return ""


def _discard_damaged(name: str, store: Store, *, progress: Callable[[str], None]) -> str:
    return store.discard_damaged(name, say=lambda line: progress(f"{name}: {line}"))


@contextlib.contextmanager
def _naming_the_damage(damaged: str) -> Iterator[None]:
    """Have errors say that the kernel was in the store, and why it was fetched again."""
    try:
        yield
    except FetchError as error:
        if not damaged:
            raise
        raise type(error)(f"{damaged}, and could not be fetched again: {error}") from error

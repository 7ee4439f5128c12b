# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn a user's word for a kernel into something bootable.

settle(words)       words -> words that mean the same in every process
select(words)       words -> selections: checked, no network
obtain(selection)   selection -> Kernel: from the store, or fetched into it
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import (
    DamagedListsError,
    FetchError,
    KernelError,
    MirrorError,
    MissingToolError,
    NotAKernelError,
    NotOfferedError,
    SignatureError,
    StoreError,
    TooOldError,
    UnknownKernelError,
)
from vm.base.paths import cache_root
from vm.kernels import catalogue as catalogues
from vm.kernels import contents, modules, requirements
from vm.kernels.archive import Archive, Offer
from vm.kernels.catalogue import Catalogue, Origin, Selection, Series, load_catalogue
from vm.kernels.image import demand_supported, read_release
from vm.kernels.installed import Installed
from vm.kernels.local import Located, locate
from vm.kernels.requirements import MissingOption
from vm.kernels.store import Entry, Manifest, Store, seal, translate_oserror
from vm.kernels.unpack import unpack_headers, unpack_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Catalogue",
    "FetchError",
    "Kernel",
    "KernelError",
    "MirrorError",
    "MissingOption",
    "MissingToolError",
    "NotAKernelError",
    "NotOfferedError",
    "Selection",
    "Series",
    "SignatureError",
    "StoreError",
    "TooOldError",
    "UnknownKernelError",
    "load_catalogue",
    "missing_options",
    "obtain",
    "select",
    "settle",
    "update",
]


ADOPTED = "path-"
"""What the names of store entries begin with that were made from a path, not fetched."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Hold everything that booting a kernel and reporting on it needs."""

    name: str  # the user's word made short ("6.1", a path's file name): results/<run>/<name>, junit classname
    image: Path  # bootable vmlinuz or bzImage
    release: str  # `uname -r`, as the image's boot header states it
    modules: Path | None  # .../lib/modules/<release>, depmod'ed; None: all built in, or virtme-ng handles the tree
    config: Path | None  # .config or config-<release>
    headers: Path | None  # one directory for bcc; `modules`/build points at it
    version: str  # the package's version; "" for a path


def select(words: Sequence[str], *, catalogue: Catalogue, mirror: str | None = None) -> list[Selection]:
    """Resolve `words` as the catalogue's `select` does; the default by what can be had here, from `mirror` if given."""
    return catalogues.select(words, catalogue=catalogue, obstacle=lambda series: _obstacle(series, mirror=mirror))


def settle(words: Sequence[str], *, catalogue: Catalogue, mirror: str | None = None) -> list[str]:
    """Return `words` with "default" replaced by what it stands for here. Raises UnknownKernelError."""
    return catalogues.settle(words, catalogue=catalogue, obstacle=lambda series: _obstacle(series, mirror=mirror))


def obtain(selection: Selection, *, progress: Callable[[str], None], mirror: str | None = None) -> Kernel:
    """Return the kernel of `selection`, fetching it first when it is not in the store.

    A kernel in the store needs no network and is not looked up again: `update` does that. `progress` is called with
    one short line whenever something that takes long begins or moves on. Safe to call from several processes at
    once. Raises FetchError's subclasses, NotAKernelError and TooOldError.
    """
    match selection.source:
        case Path() as path:
            return _from_path(selection.name, locate(path), progress=progress)
        case Installed() as installed:
            return _from_installed(selection.name, installed, progress=progress)
    store = kernel_store()
    entry = store.newest(selection.name, modules=requirements.modules_digest())
    if entry is None or contents.damage(entry.path):
        with store.locked(selection.name, progress=progress):
            damaged = _discard_damaged(selection.name, store, progress=progress)
            # Another run may have fetched it while this one waited.
            entry = store.newest(selection.name, modules=requirements.modules_digest())
            if entry is None:
                with _with_the_reason(damaged):
                    entry = _fetch(selection.source, store, progress=progress, mirror=mirror)
    return _kernel(selection.name, entry, version=entry.manifest.version)


def update(selection: Selection, *, progress: Callable[[str], None], mirror: str | None = None) -> Kernel:
    """Return the newest kernel that the archive has for `selection`, fetching it when the store's is older.

    Raises as `obtain` does.
    """
    if not isinstance(selection.source, Series):
        return obtain(selection, progress=progress)
    store = kernel_store()
    with store.locked(selection.name, progress=progress):
        _discard_damaged(selection.name, store, progress=progress)
        entry = _fetch(selection.source, store, progress=progress, mirror=mirror)
    return _kernel(selection.name, entry, version=entry.manifest.version)


def missing_options(kernel: Kernel) -> list[MissingOption]:
    """Return the options that `kernel`'s configuration lacks, the fatal first; [] where it has none to read."""
    if kernel.config is None:
        return []
    in_tree = kernel.config.name == ".config" and kernel.modules is None
    loadable = in_tree or (kernel.modules is not None and kernel.modules.is_dir())
    at_hand = None if kernel.modules is None else {modules.name_of(file) for file in kernel.modules.rglob("*.ko")}
    config = _read_config(kernel.config).decode(errors="replace")
    return requirements.missing_from(config, loadable=loadable, modules=at_hand)


def _read_config(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def kernel_store() -> Store:
    """Return the store of this user."""
    return Store(root=cache_root() / "kernels")


def archive_of(origin: Origin, *, mirror: str | None = None) -> Archive:
    """Return the archive that a catalogue's series come from."""
    return Archive(root=cache_root() / "apt", origin=origin, mirror=mirror)


def _obstacle(series: Series, *, mirror: str | None) -> str:
    """Return why `series` cannot be had here, "" if nothing is known against it. Needs no network."""
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
def _with_the_reason(damaged: str) -> Iterator[None]:
    """Have an error say why a kernel that was in the store had to be fetched."""
    try:
        yield
    except FetchError as error:
        if not damaged:
            raise
        raise type(error)(f"{damaged}, and could not be fetched again: {error}") from error


def _fetch(series: Series, store: Store, *, progress: Callable[[str], None], mirror: str | None) -> Entry:
    """Bring the newest kernel of `series` into `store`, which the caller has locked."""
    archive = archive_of(series.origin, mirror=mirror)

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
        # The mirror has moved on since the lists were read, or they are damaged.
        archive.forget(series.suites, progress=say)
        offer = _look_up(series, archive, progress=say)
        image, headers = archive.download(offer, downloads, suites=series.suites, progress=_downloading(offer, say))
    if not headers:
        say("the mirror has no headers of this version: bcc will have nothing to compile against")
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
        # Lists that were here may be damaged, or too old.
        progress(f"reading the package lists again: {error}")
        archive.forget(series.suites, progress=progress)
        archive.refresh(series.suites, progress=progress)
        return _newest(series, archive)


def _newest(series: Series, archive: Archive) -> Offer:
    offer = archive.newest(series=series.series, flavour=series.flavour, suites=series.suites)
    if offer is None:
        raise NotOfferedError(
            f"the mirror has no kernel {series.name} (looked in {', '.join(series.suites)}): 'python -m vm list' "
            "shows what there is"
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
    """Fill `stage` with what a store entry holds (see `vm.kernels.store`), from the packages' files."""
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
    _take_modules(whole / "lib/modules" / release, stage, release)
    if headers:
        (stage / "lib/modules" / release / "build").symlink_to("../../../headers")
    shutil.rmtree(whole)
    manifest = Manifest(release=release, version=version, headers=bool(headers), modules=requirements.modules_digest())
    seal(stage, manifest)


def _take_modules(source: Path, stage: Path, release: str) -> None:
    target = stage / "lib/modules" / release
    target.mkdir(parents=True)
    modules.pick([module.name for module in requirements.wanted_modules()], source=source, target=target)
    modules.index(stage, release)


def _from_installed(name: str, installed: Installed, *, progress: Callable[[str], None]) -> Kernel:
    if installed.note:
        progress(f"{name}: {installed.note}")
    located = locate(installed.image)
    if located.config is None:
        located = replace(located, config=installed.config)
    return _from_path(name, located, progress=progress)


def _from_path(name: str, located: Located, *, progress: Callable[[str], None]) -> Kernel:
    if located.modules is None:
        return Kernel(
            name=name,
            image=located.image,
            release=located.release,
            modules=None,
            config=located.config,
            headers=located.headers or _join_headers(located),
            version="",
        )
    # A package's modules are compressed and have no index, and its directory may not be ours to write in.
    store = kernel_store()
    key = f"{ADOPTED}{hashlib.sha256(str(located.image.resolve()).encode()).hexdigest()[:12]}"
    version = _state_of(located)
    with store.locked(key, progress=progress):
        store.discard_damaged(key, say=lambda line: progress(f"{name}: {line}"))
        entries = [entry for entry in store.entries(key) if entry.path.name == version]
        if not entries:
            progress(f"{name}: taking the modules that a guest needs")
            with store.staging(key, version) as stage:
                _adopt(stage, located)
            entries = [entry for entry in store.entries(key) if entry.path.name == version]
    return _kernel(name, entries[0], version="")


def _join_headers(located: Located) -> Path | None:
    """Return a directory of links that joins the headers of a source tree with those of its output directory."""
    if located.source is None or located.tree is None:
        return None
    key = hashlib.sha256(f"{located.source}\n{located.tree}".encode()).hexdigest()[:12]
    joined = cache_root() / "headers" / key
    with translate_oserror(joined):
        for directory in (Path("include"), Path("arch/x86/include")):
            (joined / directory).mkdir(parents=True, exist_ok=True)
            for root in (located.source, located.tree):
                for path in (root / directory).iterdir():
                    with contextlib.suppress(FileExistsError):
                        (joined / directory / path.name).symlink_to(path)
    return joined


def _adopt(stage: Path, located: Located) -> None:
    assert located.modules is not None
    with translate_oserror(stage):
        shutil.copyfile(located.image, stage / "vmlinuz")
        if located.config is not None:
            (stage / "config").write_bytes(_read_config(located.config))
        _take_modules(located.modules, stage, located.release)
        for link, headers in _headers_beside(located.modules):
            (stage / "lib/modules" / located.release / link).symlink_to(headers)
        manifest = Manifest(
            release=located.release,
            version="",
            headers=(stage / "lib/modules" / located.release / "build").is_dir(),
            modules=requirements.modules_digest(),
        )
        seal(stage, manifest)


def _headers_beside(modules: Path) -> list[tuple[str, Path]]:
    """Return the links to headers that a kernel's modules have, and where they lead."""
    return [(link, (modules / link).resolve()) for link in ("build", "source") if (modules / link).is_dir()]


def _state_of(located: Located) -> str:
    """Return a name for what the files of `located` are now, so that a kernel that changed is taken anew.

    It may have been rebuilt, or its headers installed after the witness had missed them.
    """
    assert located.modules is not None
    facts = [requirements.modules_digest(), located.release]
    facts += [str(headers) for _, headers in _headers_beside(located.modules)]
    for path in (located.image, located.modules / "modules.order", located.modules / "kernel"):
        if path.exists():
            status = path.stat()
            facts.append(f"{status.st_mtime_ns}-{status.st_size}")
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:12]


def _kernel(name: str, entry: Entry, *, version: str) -> Kernel:
    release = entry.manifest.release
    demand_supported(release, what=name)
    directory = entry.path / "lib/modules" / release
    config = entry.path / "config"
    return Kernel(
        name=name,
        image=entry.path / "vmlinuz",
        release=release,
        modules=directory,
        config=config if config.is_file() else None,
        headers=(directory / "build").resolve() if entry.manifest.headers else None,
        version=version,
    )

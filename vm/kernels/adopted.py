# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a kernel that the user has, at a path or installed, ready to boot."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.paths import cache_root
from vm.kernels import requirements
from vm.kernels.entries import kernel_of, kernel_store, take_modules
from vm.kernels.kernel import Kernel, read_config
from vm.kernels.local import Located, locate
from vm.kernels.store import Manifest, seal, translate_oserror

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.kernels.installed import Installed

ADOPTED = "path-"
"""The beginning of the names of store entries that were made from a path, not fetched."""


def from_installed(name: str, installed: Installed, *, progress: Callable[[str], None]) -> Kernel:
    """Return an installed kernel, called `name`. Raises as `from_located` does."""
    if installed.note:
        progress(f"{name}: {installed.note}")
    located = locate(installed.image)
    if located.config is None:
        located = replace(located, config=installed.config)
    return from_located(name, located, progress=progress)


def from_located(name: str, located: Located, *, progress: Callable[[str], None]) -> Kernel:
    """Return the kernel at a path, called `name`; where it has modules, a copy of it in the store.

    Raises FetchError's subclasses, NotAKernelError for modules that cannot be read.
    """
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
    # A package's modules are compressed and have no index, and this user may have no right to write beside them.
    store = kernel_store()
    key = f"{ADOPTED}{hashlib.sha256(str(located.image.resolve()).encode()).hexdigest()[:12]}"
    version = _state_of(located)
    with store.locked(key, progress=progress):
        store.discard_damaged(key, say=lambda line: progress(f"{name}: {line}"))
        if not any(entry.path.name == version for entry in store.entries(key)):
            progress(f"{name}: copying the modules that a guest needs")
            with store.staging(key, version) as stage:
                _adopt(stage, located)
        (entry,) = (entry for entry in store.entries(key) if entry.path.name == version)
    return kernel_of(name, entry, version="")


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
            (stage / "config").write_bytes(read_config(located.config))
        take_modules(located.modules, stage, located.release)
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
    """Return a short text that differs when the files of `located` have changed, so that they are copied again.

    The kernel may have been rebuilt, or its headers may have been installed since.
    """
    assert located.modules is not None
    facts = [requirements.modules_digest(), located.release]
    facts += [str(headers) for _, headers in _headers_beside(located.modules)]
    for path in (located.image, located.modules / "modules.order", located.modules / "kernel"):
        if path.exists():
            status = path.stat()
            facts.append(f"{status.st_mtime_ns}-{status.st_size}")
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:12]

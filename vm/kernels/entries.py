# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The user's store: what its entries hold, and a kernel from one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.base.paths import cache_root
from vm.kernels import modules, requirements
from vm.kernels.image import demand_supported
from vm.kernels.kernel import Kernel
from vm.kernels.store import Entry, Store

if TYPE_CHECKING:
    from pathlib import Path


def kernel_store() -> Store:
    """Return the store of this user."""
    return Store(root=cache_root() / "kernels")


def take_modules(source: Path, stage: Path, release: str) -> None:
    """Copy the modules that a guest needs from `source`, a lib/modules/<release>, to the entry that `stage` becomes."""
    target = stage / "lib/modules" / release
    target.mkdir(parents=True)
    modules.pick([module.name for module in requirements.wanted_modules()], source=source, target=target)
    modules.index(stage, release)


def kernel_of(name: str, entry: Entry, *, version: str) -> Kernel:
    """Return the kernel in `entry`, called `name`. Raises TooOldError."""
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

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel that is ready to boot, and what its configuration lacks."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm.kernels import modules, requirements

if TYPE_CHECKING:
    from pathlib import Path

    from vm.kernels.requirements import MissingOption


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """All that is needed to boot a kernel and to report on it."""

    name: str  # the user's word made short ("6.1", a path's file name): results/<run>/<name>, junit classname
    image: Path  # bootable vmlinuz or bzImage
    release: str  # `uname -r`, as the image's boot header states it
    modules: Path | None  # .../lib/modules/<release>, depmod'ed; None: all built in, or virtme-ng handles the tree
    config: Path | None  # .config or config-<release>
    headers: Path | None  # one directory for bcc; `modules`/build points at it
    version: str  # the package's version; "" for a path


def missing_options(kernel: Kernel) -> list[MissingOption]:
    """Return the options that `kernel`'s configuration lacks, the fatal first; [] where it has none to read."""
    if kernel.config is None:
        return []
    in_tree = kernel.config.name == ".config" and kernel.modules is None
    loadable = in_tree or (kernel.modules is not None and kernel.modules.is_dir())
    at_hand = None if kernel.modules is None else {modules.name_of(file) for file in kernel.modules.rglob("*.ko")}
    config = read_config(kernel.config).decode(errors="replace")
    return requirements.missing_from(config, loadable=loadable, modules=at_hand)


def read_config(path: Path) -> bytes:
    """Return the text of a kernel's configuration, decompressed. Raises OSError."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content

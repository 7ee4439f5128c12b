# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn a user's word for a kernel into something bootable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm.errors import (
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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
]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Hold everything that booting a kernel and reporting on it needs."""

    name: str  # the user's word made short ("6.1", or a path's file name): results/<run>/<name>, junit classname
    image: Path  # bootable vmlinuz or bzImage
    release: str  # `uname -r`, as the image's boot header states it
    modules: (
        Path | None
    )  # .../lib/modules/<release>, depmod'ed; None: all built in, or a tree that virtme-ng handles
    config: Path | None  # .config or config-<release>
    headers: Path | None  # what /lib/modules/<release>/build is to point at in the guest, for bcc
    version: str  # the package's version; "" for a path


@dataclass(frozen=True, kw_only=True)
class Series:
    """Hold one entry of kernels.toml: where the archive keeps a stable series."""

    name: str


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


@dataclass(frozen=True, kw_only=True)
class MissingOption:
    """Name an option that a kernel's configuration lacks and what does not work without it."""

    option: str  # "CONFIG_NET_9P_VIRTIO"
    why: str  # "the guest cannot mount the host's files"
    fatal: bool  # False: only a note


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read `path`, or the kernels.toml of this project."""
    raise NotImplementedError


def select(words: Sequence[str], *, catalogue: Catalogue) -> list[Selection]:
    """Resolve `words` ("6.1", "6.*", "all", "default", "distribution", a path) in order, each kernel once.

    Needs no network. Raises UnknownKernelError, NotAKernelError, TooOldError (paths only).
    """
    raise NotImplementedError


def obtain(selection: Selection, *, progress: Callable[[str], None], mirror: str | None = None) -> Kernel:
    """Return the kernel of `selection`, fetching it first when it is not in the store.

    `progress` is called with one short line whenever something that takes long begins or moves on.
    Safe to call from several processes at once. Raises FetchError's subclasses and NotAKernelError.
    """
    raise NotImplementedError


def missing_options(kernel: Kernel) -> list[MissingOption]:
    """Return the options that `kernel`'s configuration lacks, [] where it has none to read."""
    raise NotImplementedError

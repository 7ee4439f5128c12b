# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the kernel that a path means: an image, an unpacked package, or a kernel build tree."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import NotAKernelError
from vm.kernels.image import demand_supported, read_release

TREE_IMAGE = Path("arch/x86/boot/bzImage")

_LOOKED_FOR = (
    str(TREE_IMAGE),
    "bzImage",
    "vmlinuz",
    "vmlinuz-*",
    "boot/vmlinuz-*",
    "lib/modules/*/vmlinuz",
    "usr/lib/modules/*/vmlinuz",
)


@dataclass(frozen=True, kw_only=True)
class Located:
    """The kernel that a path means."""

    image: Path
    release: str
    tree: Path | None  # the build tree that the image lies in: virtme-ng handles its modules
    modules: Path | None  # .../lib/modules/<release> beside the image, as it was found: compressed, without an index
    config: Path | None
    headers: Path | None  # one directory that bcc can compile against
    source: Path | None  # with `headers` None: the tree of which an output directory (make O=) was built


def locate(path: Path) -> Located:
    """Find the kernel that `path` means and check its boot header.

    Raises NotAKernelError (also for what is not there), TooOldError.
    """
    image = _image_in(path) if _is_directory(path) else path
    release = read_release(image)
    demand_supported(release, what=str(path))
    tree = _tree_of(image)
    modules = None if tree else _modules_beside(image, release)
    return Located(
        image=image,
        release=release,
        tree=tree,
        modules=modules,
        config=_config_of(image, release, tree=tree, modules=modules),
        headers=_headers_of(tree, modules),
        source=_source_of(tree),
    )


def _is_directory(path: Path) -> bool:
    """Return whether `path` is a directory, False for a file. Raises NotAKernelError for anything else."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)  # glob() reports nothing for a directory that cannot be read
    except FileNotFoundError:
        raise NotAKernelError(f"{path}: there is no such file or directory") from None
    except OSError as error:
        raise NotAKernelError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise NotAKernelError(f"{path} is neither a file nor a directory")
    return stat.S_ISDIR(mode)


def _image_in(directory: Path) -> Path:
    found: dict[Path, Path] = {}
    for pattern in _LOOKED_FOR:
        for image in sorted(directory.glob(pattern)):
            found.setdefault(image.resolve(), image)
        if found and pattern == str(TREE_IMAGE):
            break  # a tree may have links to its own image lying about
    if len(found) > 1:
        names = ", ".join(str(image.relative_to(directory)) for image in found.values())
        raise NotAKernelError(f"{directory} holds several kernels: name one of {names}")
    if found:
        return next(iter(found.values()))
    if (directory / "Kconfig").is_file():
        raise NotAKernelError(
            f"{directory} is a kernel tree that is not built: there is no {TREE_IMAGE}. "
            f"Build it with 'python -m vm build {directory}'"
        )
    raise NotAKernelError(f"{directory} holds no kernel image; looked for {', '.join(_LOOKED_FOR)}")


def _tree_of(image: Path) -> Path | None:
    """Return the build tree of `image`: virtme-ng takes a directory for one by its .config."""
    root = image.absolute()
    for _ in TREE_IMAGE.parts:
        root = root.parent
    return root if root / TREE_IMAGE == image.absolute() and (root / ".config").is_file() else None


def _modules_beside(image: Path, release: str) -> Path | None:
    """Return the modules of the same release in the nearest directory above `image` that has them."""
    for directory in image.resolve().parents:
        for modules in (directory / "lib/modules" / release, directory / "usr/lib/modules" / release):
            if (modules / "kernel").is_dir():
                return modules
    return None


def _config_of(image: Path, release: str, *, tree: Path | None, modules: Path | None) -> Path | None:
    beside = image.resolve().parent
    candidates = [beside / f"config-{release}", beside / "config", beside / ".config"]
    if tree is not None:
        candidates = [tree / ".config"]
    elif modules is not None:
        candidates += [modules / "config", modules / "build/.config"]
    return next((config for config in candidates if config.is_file()), None)


def _headers_of(tree: Path | None, modules: Path | None) -> Path | None:
    """Return the directory in which bcc finds both the headers and what the build generated."""
    candidates = [] if tree is None else [tree]
    if modules is not None:
        candidates += [modules / "build"]
    for directory in candidates:
        if (directory / "include/generated/autoconf.h").is_file() and (directory / "include/linux/kconfig.h").is_file():
            return directory.resolve()
    return None


def _source_of(tree: Path | None) -> Path | None:
    """Return the source tree of an output directory, which kbuild links as `source`."""
    if tree is None or not (tree / "include/generated/autoconf.h").is_file():
        return None
    source = tree / "source"
    return source.resolve() if (source / "include/linux/kconfig.h").is_file() else None

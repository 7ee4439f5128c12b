# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel's tree with the faults in it, beside the one without, which is left as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from vm.base.errors import HostError, NotAKernelError
from vm.kernels.build import FRAGMENT, build
from vm.kernels.flavours import fragment
from vm.kernels.local import TREE_IMAGE

from .planting import DEFINITION, HEADER, Planted, plant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .table import Fault

PLANTED, BUILD = "planted", "build"
"""The tree with the faults, and what is built of it, in the directory of a run."""

_BUILT = (".config", "include/config", "vmlinux")


def unpack(archive: Path, directory: Path, *, progress: Callable[[str], None]) -> Path:
    """Unpack a distribution's `archive` of a kernel's source once; return its tree in `directory`.

    A tree of an archive that has changed since goes, with all that was made of it: make compares times alone, and the
    files of an update are older than the objects. Raises HostError.
    """
    tree, stamp = directory / archive.name.partition(".tar")[0], directory / "archive"
    there = archive.stat()
    identity = f"{there.st_size} {there.st_mtime_ns}\n"
    if not (stamp.exists() and stamp.read_text() == identity):
        for made in (tree, directory / PLANTED, *directory.glob(f"{BUILD}*")):
            shutil.rmtree(made, ignore_errors=True)
        stamp.write_text(identity)
    if not tree.exists():
        progress(f"unpacking {archive}")
        half = directory / "half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        # Not tarfile: its filters, and the warning without one, depend on the patch release of Python.
        said = subprocess.run(
            ["tar", "-xf", str(archive), "-C", str(half)], stderr=subprocess.PIPE, text=True, check=False
        )
        if said.returncode:
            raise HostError(f"{archive} could not be unpacked in {half}: {said.stderr.strip().splitlines()[-1]}")
        (half / tree.name).rename(tree)
        half.rmdir()
    return tree


def plant_tree(tree: Path, copy: Path, faults: Sequence[Fault]) -> Planted:
    """Make `copy`, which shares what is alike with `tree`, with `faults` planted; only what changed is written.

    Raises NotAKernelError for a tree that is none or was built in place.
    """
    if not (tree / DEFINITION).exists():
        raise NotAKernelError(f"{tree} is no kernel source tree of 4.5 or later: it has no {DEFINITION}")
    if built := next((name for name in _BUILT if (tree / name).exists()), None):
        raise NotAKernelError(
            f"{tree} was configured or built in place (it has {built}), so that its copy could not be built "
            f"elsewhere: run 'make -C {tree} mrproper', or name a tree that was not built"
        )
    files = dict.fromkeys([DEFINITION, *(edit.file for fault in faults for edit in fault.edits)])
    planted = plant({name: (tree / name).read_text() for name in files if (tree / name).exists()}, faults)
    if not copy.exists():
        half = copy.with_name(f"{copy.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(tree, half, symlinks=True, copy_function=_share)
        half.rename(copy)
    for name in {*files, HEADER}:
        text = planted.texts.get(name)
        if text is None and (tree / name).exists():
            text = (tree / name).read_text()
        if text is not None:
            _write_if_new(copy / name, text)
    return planted


def _share(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # of another file system
        shutil.copy2(source, target)
    return target


def _write_if_new(path: Path, text: str) -> None:
    """Write `text` into a file of its own, unless it is there: make compiles what is newer than its object."""
    if path.exists() and path.read_text() == text:
        return
    half = path.with_name(f"{path.name}.half")
    half.write_text(text)
    half.replace(path)


def build_once(
    copy: Path, output: Path, planted: Planted, *, flavours: Sequence[str] = (), progress: Callable[[str], None]
) -> Path:
    """Build the tree `copy` in `output`, unless what is there is of the same faults and options; return its image.

    To find that nothing changed takes make a minute. Raises what `vm.kernels.build.build` does.
    """
    image, stamp = output / TREE_IMAGE, output / "planted.sha256"
    parts = [
        *(f"{name}\0{text}" for name, text in sorted(planted.texts.items())),
        FRAGMENT.read_text(),
        fragment(flavours),
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if not (image.exists() and stamp.exists() and stamp.read_text() == digest):
        stamp.unlink(missing_ok=True)
        build(copy, output=output, progress=progress, flavours=flavours)
        stamp.write_text(digest)
    return image

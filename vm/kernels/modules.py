# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Copy the modules that a guest needs from a kernel's module tree."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import zlib
from typing import TYPE_CHECKING

from vm.base.children import demand_room
from vm.base.errors import NotAKernelError, StoreError
from vm.base.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SUFFIX = re.compile(r"\.ko(\.xz|\.gz|\.zst)?$")


def name_of(file: Path) -> str:
    """Return the name of the module in `file`, with underscores as the kernel spells it."""
    return _SUFFIX.sub("", file.name).replace("-", "_")


def read_module(file: Path) -> bytes:
    """Return the module in `file`, decompressed.

    virtme-ng's initramfs has an insmod that does not decompress, and under emulation a guest is slow at it.
    """
    match file.suffix:
        case ".xz":
            return lzma.decompress(file.read_bytes())
        case ".gz":
            return gzip.decompress(file.read_bytes())
        case ".zst":
            tool = find_tool("zstd", package="zstd")
            return subprocess.run([tool, "-dc", str(file)], check=True, capture_output=True).stdout
        case _:
            return file.read_bytes()


def dependencies(module: bytes) -> list[str]:
    """Return the modules that `module` needs before it: its .modinfo's `depends` and the softdep's `pre`."""
    found: list[str] = []
    for key, value in re.findall(rb"\0(depends|softdep)=([^\0]*)", module):
        names = value.decode()
        if key == b"depends":
            found += [name for name in names.split(",") if name]
        elif names.startswith("pre:"):
            found += names.removeprefix("pre:").split("post:")[0].split()
    return [name.replace("-", "_") for name in found]


def pick(names: Iterable[str], *, source: Path, target: Path) -> list[str]:
    """Copy the modules `names`, and all they depend on, from `source` to `target`, both .../lib/modules/<release>.

    Names that the tree does not have are left out: they may be built in. Returns the names that were copied; `target`
    has no index yet (see `index`). Raises NotAKernelError for a module that cannot be read.
    """
    tree = {name_of(file): file for file in source.glob("kernel/**/*.ko*") if _SUFFIX.search(file.name)}
    picked: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in picked or name not in tree:
            continue
        picked.add(name)
        file = tree[name]
        try:
            module = read_module(file)
        except (lzma.LZMAError, EOFError, gzip.BadGzipFile, zlib.error, subprocess.CalledProcessError) as error:
            raise NotAKernelError(f"{file} cannot be decompressed: {error}") from error
        waiting += dependencies(module)
        copy = target / _SUFFIX.sub(".ko", str(file.relative_to(source)))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(module)
    for listing in source.glob("modules.builtin*"):
        if listing.suffix != ".bin":
            shutil.copyfile(listing, target / listing.name)
    order = source / "modules.order"
    if order.is_file():
        shutil.copyfile(order, target / order.name)
    return sorted(picked)


def index(root: Path, release: str) -> None:
    """Run depmod over root/lib/modules/<release>.

    Raises MissingToolError when there is none, OSError when the disk is full, StoreError when it fails otherwise.
    """
    tool = find_tool("depmod", package="kmod")
    made = subprocess.run(
        [tool, "--basedir", str(root), release], capture_output=True, text=True, errors="replace", check=False
    )
    if made.returncode:
        demand_room(made.stderr)
        raise StoreError(f"depmod failed over {root}/lib/modules/{release}: {made.stderr.strip()}")

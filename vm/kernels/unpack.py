# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Unpack from a kernel's packages what is needed to boot it and to trace it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vm.base.errors import StoreError
from vm.base.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

# Since 7.0 a kernel lives whole under usr/lib/modules; before, image and configuration are in boot/.
_KERNEL = (
    (re.compile(r"boot/vmlinuz-[^/]+"), "vmlinuz"),
    (re.compile(r"(?:usr/)?lib/modules/[^/]+/vmlinuz"), "vmlinuz"),
    (re.compile(r"boot/config-[^/]+"), "config"),
    (re.compile(r"(?:usr/)?lib/modules/[^/]+/config"), "config"),
    (re.compile(r"(?:usr/)?lib/modules/([^/]+/(?:kernel/.+|modules\.[^/]+))"), r"lib/modules/\1"),
)

# bcc compiles against include/ and arch/x86/include/ alone. Of those, include/config is thousands of empty files
# for make, and include/dt-bindings (a tenth) describes boards: 50 to 65 MB are left of 85.
_HEADERS = (
    (
        re.compile(r"usr/src/linux-headers-[^/]+/((?:include/(?!config/|dt-bindings/)|arch/x86/include/).+)"),
        r"\1",
    ),
)


def unpack_kernel(packages: Iterable[Path], into: Path) -> None:
    """Unpack vmlinuz, config and lib/modules/<release>/ of `packages` (.deb) into the directory `into`."""
    for package in packages:
        _unpack(package, into, _KERNEL)


def unpack_headers(packages: Iterable[Path], into: Path) -> None:
    """Unpack the headers of `packages` (.deb), the common ones and the flavour's, into one tree `into`.

    In the packages they are two trees, joined by a Makefile, which bcc does not read (Debian), or by links from the
    flavour's to the common one (Ubuntu).
    """
    for package in packages:
        _unpack(package, into, _HEADERS)


def _unpack(package: Path, into: Path, wanted: Iterable[tuple[re.Pattern[str], str]]) -> None:
    tool = find_tool("dpkg-deb", package="dpkg")
    with subprocess.Popen(
        [tool, "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as members:
                for member in members:
                    _extract(members, member, into, lambda path: _place(path, wanted))
            process.stdout.read()  # the tar's padding, so that dpkg-deb does not die of a closed pipe
        except tarfile.TarError as error:
            process.kill()
            raise StoreError(f"{package.name} cannot be unpacked: {error}") from error
        except BaseException:
            process.kill()
            raise
        complaint = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise StoreError(f"{package.name} cannot be unpacked: {complaint}")


def _extract(members: tarfile.TarFile, member: tarfile.TarInfo, into: Path, place: Callable[[str], str | None]) -> None:
    name = place(member.name.removeprefix("./"))
    if name is None or ".." in PurePosixPath(name).parts:
        return
    target = into / name
    # By hand: tarfile's extraction filters are younger than the oldest Python that this runs on.
    if member.isreg():
        target.parent.mkdir(parents=True, exist_ok=True)
        content = members.extractfile(member)
        assert content is not None
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    elif member.issym() and not _joins_trees(member):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(member.linkname)


def _joins_trees(member: tarfile.TarInfo) -> bool:
    """Return whether a link leads from one package's directory under usr/src to another's."""
    here = PurePosixPath(member.name.removeprefix("./"))
    there = PurePosixPath(os.path.normpath(here.parent / member.linkname))
    return there.parts[:2] == here.parts[:2] == ("usr", "src") and there.parts[2:3] != here.parts[2:3]


def _place(path: str, wanted: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in wanted:
        match = pattern.fullmatch(path)
        if match:
            return match.expand(target)
    return None

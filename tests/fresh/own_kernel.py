# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have a root take the kernel that is installed in it for the running one.

All roots share this machine's kernel, whose image they do not have, as containers do. `--kernel running` is for systems
that run what they have installed. So a library of one function, uname(), is preloaded into every program of the root
(ld.so(8), /etc/ld.so.preload). Nothing else is pretended: image, modules and configuration are those of the package.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_LIBRARY = "usr/local/lib/own-kernel.so"
_SOURCE = Path(__file__).with_suffix(".c")


class OwnKernelError(Exception):
    """A root without a kernel, or without a way to pretend that it runs: the reason."""


def pretend(root: Path) -> str:
    """Make uname(2) in `root` tell the release of the kernel installed there, and return that. Needs clang there."""
    release = installed_release(root)
    source = root / "usr/local/src" / _SOURCE.name
    shutil.copyfile(_SOURCE, source)
    # The root's own compiler: the library has to be loadable there.
    clang = ["clang", "-shared", "-fPIC", "-nostdlib", "-O1", f'-DRELEASE="{release}"']
    words = ["chroot", str(root), *clang, "-o", f"/{_LIBRARY}", f"/{source.relative_to(root)}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OwnKernelError(f"clang ended with status {done.returncode}: {done.stderr.strip()}")
    (root / "etc/ld.so.preload").write_text(f"/{_LIBRARY}\n")
    return release


def installed_release(root: Path) -> str:
    """Return the release of the only kernel under `root`/boot. Raises OwnKernelError."""
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        names = ", ".join(image.name for image in images) or "none"
        raise OwnKernelError(f"{root}/boot ought to hold the image of one kernel, and holds {names}")
    return images[0].name.removeprefix("vmlinuz-")

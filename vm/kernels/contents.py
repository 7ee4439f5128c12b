# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find kernels in the store whose files were damaged, by a full disk or a lost power supply for example.

This is checked before a boot, or it would look like a kernel that does not boot. contents.json has the digests of what
a guest boots from: 14 MB in 70 files, which takes 0.1 s to read. headers/, thousands of files for bcc, is left out.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from vm.base.errors import NotAKernelError
from vm.kernels.image import read_release

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "contents.json"
_LEFT_OUT = ("headers", "kernel.json", _FILE)


def record(directory: Path) -> None:
    """Write contents.json with the digest of each file of a kernel, before its manifest is there. Raises OSError."""
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink())
    names = (str(path.relative_to(directory)) for path in paths)
    found = {name: _digest(directory / name) for name in names if name.partition("/")[0] not in _LEFT_OUT}
    (directory / _FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def damage(directory: Path) -> str:
    """Return how a kernel is damaged, "" if it is not.

    Of an old entry without contents.json only the image is checked.
    """
    try:
        if not (directory / _FILE).exists():
            read_release(directory / "vmlinuz")
            return ""
        recorded = json.loads((directory / _FILE).read_text(encoding="utf-8")).items()
    except NotAKernelError as error:
        return str(error)
    except (OSError, ValueError, AttributeError):
        return f"{_FILE} cannot be read"
    for name, digest in recorded:
        try:
            if _digest(directory / name) != digest:
                return f"{name} has changed"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

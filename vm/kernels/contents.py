# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find out that a kernel in the store is no longer what was put there: by a full disk, a lost power supply, a hand.

Noticed before it boots, for it would look like a kernel that does not. contents.json names what a guest boots from,
14 MB in 70 files, which takes a tenth of a second to read; headers/, thousands of files for bcc, are left out.
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
    """Write down the digest of each file of a kernel that is complete but for its manifest. Raises OSError."""
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink())
    names = (str(path.relative_to(directory)) for path in paths)
    found = {name: _digest(directory / name) for name in names if name.partition("/")[0] not in _LEFT_OUT}
    (directory / _FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def damage(directory: Path) -> str:
    """Return what is wrong with a kernel, "" if nothing is.

    Of one without contents.json, from before there was such a file, only the image is looked at.
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
                return f"{name} is not what was put there"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

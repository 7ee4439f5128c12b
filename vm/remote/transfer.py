# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Send compiled programs to another machine, so that the same bytes are tested everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.interface.atomic import write_bytes
from vm.kernels.store import translate_oserror

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(files: Mapping[str, str]) -> dict[str, tuple[str, bytes]]:
    """Return for each name the file's own name and content, as execnet can send them. Raises OSError."""
    return {name: (Path(path).name, Path(path).read_bytes()) for name, path in files.items()}


def unpack(packed: Mapping[str, tuple[str, bytes]], directory: Path) -> dict[str, str]:
    """Write packed files into `directory`, except those that are there already; return each name's path.

    A file's name there has a digest of its content, so runs share files. Raises StoreError.
    """
    paths = {}
    with translate_oserror(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, (file_name, content) in packed.items():
            path = directory / f"{hashlib.sha256(content).hexdigest()[:16]}-{file_name}"
            if not path.exists() or path.read_bytes() != content:  # a full disk may have damaged it
                write_bytes(path, content)
            paths[name] = str(path)
    return paths

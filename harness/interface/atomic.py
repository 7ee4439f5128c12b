# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Files that are written whole or not at all: under a temporary name first, then moved to their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, readable for everyone; return `path`. Raises OSError, and leaves nothing then.

    Another process reads the file as it was or as it is now, never half of it.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            return Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` as `write_bytes` does, in UTF-8 whatever the locale; what UTF-8 cannot hold is escaped."""
    return write_bytes(path, text.encode(errors="backslashreplace"))

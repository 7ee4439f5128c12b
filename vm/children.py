# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run programs of others: leave none behind, nor their files, and understand what they say of a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMOVE_AT_THE_END = 'cat >/dev/null; exec rm -rf -- "$0"'


def dying_with_us() -> list[str]:
    """Return what, put before a command, makes its process end when the thread that starts it does (prctl(2))."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a new directory for temporary files, which goes when the context ends or this process is killed.

    A shell removes it when the pipe from this process closes. It has a session of its own, so that it outlives what is
    done to the whole job. Raises OSError.
    """
    directory = tempfile.mkdtemp(prefix="reuseport-")
    try:
        remover = subprocess.Popen(
            ["sh", "-c", _REMOVE_AT_THE_END, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        Path(directory).rmdir()
        raise
    with remover:  # closes the pipe and waits
        yield Path(directory)


def demand_room(complaint: str) -> None:
    """Raise OSError where a program that failed has complained of a full disk."""
    if os.strerror(errno.ENOSPC) in complaint:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

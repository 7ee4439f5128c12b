# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Processes that end, and temporary files that are removed, when another process ends or is killed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_REMOVE_AT_THE_END = 'cat >/dev/null; rm -rf -- "$0" || { sleep 1; exec rm -rf -- "$0"; }'
"""A second time, as a program that is being killed may have written into the directory meanwhile."""


def end_with_tox() -> None:
    """If tox has started this process, have the kernel interrupt it, as Ctrl-C does, when tox is killed.

    A process that ignores Ctrl-C, as a shell's background jobs do, is terminated.
    """
    if "TOX_ENV_NAME" in os.environ:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if ignored else signal.SIGINT)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a new directory for temporary files; it is removed when the context ends or this process is killed.

    A shell removes it when the pipe from this process closes. The shell has a session of its own, so signals to the
    whole job do not end it. Raises OSError.
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
    """Raise OSError (ENOSPC) if the error output of a program that failed names a full disk."""
    if os.strerror(errno.ENOSPC) in complaint:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

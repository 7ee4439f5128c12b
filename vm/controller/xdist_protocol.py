# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a relay has to know of the messages between pytest-xdist's controller and its workers.

xdist documents none of it (read in 3.8: xdist/remote.py, xdist/workermanage.py), and there is no public way to stand
between the two. Nothing else in vm/ knows these messages; what a relay does not know, it passes on.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any


class Name(enum.StrEnum):
    """The messages that a relay looks at; the others pass through."""

    READY = "workerready"  # from the worker, as are the next five
    COLLECTED = "collectionfinish"  # the worker waits from here on
    BEGAN = "logstart"  # a case
    ENDED = "runtest_protocol_complete"  # a case
    INTERNAL_ERROR = "internal_error"  # of pytest; FINISHED follows
    FINISHED = "workerfinished"
    RUN = "runtests"  # controller to worker, as is the next
    SHUTDOWN = "shutdown"


ENDED_BY_CASES = frozenset({0, 1, 5})
"""OK, TESTS_FAILED and NO_TESTS_COLLECTED of pytest.ExitCode, with which a worker ends whose cases have run. It is not
imported here, for that would import all of pytest."""


def worker_source() -> str:
    """Return the source of xdist's worker, without importing it: that would import all of pytest."""
    package = importlib.util.find_spec("xdist")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("remote.py").read_text()


def ready_without_cases() -> list[tuple[Name, dict[str, Any]]]:
    """Return what a worker says that is up and has found no case (xdist.remote.WorkerInteractor)."""
    # A string, which is what travels.
    here = os.getcwd()  # noqa: PTH109
    info = {
        "version": sys.version,
        "version_info": tuple(sys.version_info),
        "sysplatform": sys.platform,
        "platform": platform.platform(),
        "executable": sys.executable,
        "cwd": here,
    }
    return [(Name.READY, {"workerinfo": info}), (Name.COLLECTED, {"topdir": here, "ids": []})]


def finished_without_cases() -> tuple[Name, dict[str, Any]]:
    """Return the last message of a worker that ran no case."""
    return Name.FINISHED, {"workeroutput": {"exitstatus": 0, "shouldfail": False, "shouldstop": False}}

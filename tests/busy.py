# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run cases many times over while the CPU has other work: what fails then and not otherwise waits by the clock.

A plugin for pytest:

    tox -e vm -- -p tests.busy --busy-loops 4 --times 10 -k reference

The loops run where the cases do, in the guest if there is one, and compete with the kernel's receive work, which a busy
CPU leaves to ksoftirqd, at its own priority. The cases are ahead of both: they look as early as they ever can, and a
suite among four loops takes little longer than alone. `--fair` gives the cases the loops' priority, and a fifth of
the CPU.
"""

from __future__ import annotations

import os
import signal

import pytest

_LOOPS = pytest.StashKey[list[int]]()

_AHEAD = -20
"""A nice value that weighs as much as 87 processes of the usual one (sched(7); kernel/sched/core.c)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how busy."""
    group = parser.getgroup("busy", "cases on a busy CPU")
    group.addoption("--busy-loops", type=int, default=4, metavar="N", help="processes that never sleep (default: 4)")
    group.addoption("--fair", action="store_true", help="let the cases wait for the loops, too")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the loops where the cases run, on the CPUs that they may use."""
    option = session.config.option
    elsewhere = option.dist != "no" and not hasattr(session.config, "workerinput")  # in VMs, or in other processes
    if not elsewhere and not option.collectonly:
        session.config.stash[_LOOPS] = [_loop() for _ in range(option.busy_loops)]
        if not option.fair:
            os.setpriority(os.PRIO_PROCESS, 0, _AHEAD)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the loops."""
    for loop in session.config.stash.get(_LOOPS, []):
        os.kill(loop, signal.SIGKILL)
        os.waitpid(loop, 0)


def _loop() -> int:
    """Return a process that is always ready to run."""
    child = os.fork()
    if child:
        return child
    while True:
        pass

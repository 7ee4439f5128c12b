# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Serve jobs, each in a fork of this process, which ends with the job or when its time is over.

Jobs come as lines of JSON by the first of the two descriptors that MUTANTS_JOBS names; for each a line goes out by the
second, which says how the fork ended: its `status`, or its `signal`, and whether it was `late`. When nobody is left
who could write jobs, the fork that runs is ended: a run that was killed, or interrupted while it ended, leaves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "MUTANTS_JOBS"
_TICK = 0.02

_running: list[int] = []
"""The fork that runs, if one does."""


def serve(become: Callable[[dict[str, Any]], int]) -> None:
    """Take jobs until there are no more; `become` is called in a fork, and returns its status."""
    jobs, answers = map(int, os.environ[VARIABLE].split(","))
    signal.signal(signal.SIGTERM, _stop)
    with os.fdopen(jobs, "rb", buffering=0) as lines:
        os.write(answers, b"{}\n")  # ready
        for line in lines:
            os.write(answers, (json.dumps(_run(json.loads(line), become, jobs)) + "\n").encode())


def _stop(*_: object) -> None:
    """End with the fork that runs."""
    for child in _running:
        _end(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # where it has no session of its own yet, that did not end it
    os._exit(143)


def _end(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _run(job: dict[str, Any], become: Callable[[dict[str, Any]], int], jobs: int) -> dict[str, Any]:
    writer = select.poll()
    writer.register(jobs, 0)  # POLLHUP alone, which is always told
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be(job, become)
    _running[:] = [child]
    late = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > job["seconds"]:
            late = True
            _end(child)
            _, status = os.waitpid(child, 0)
            break
        if writer.poll(_TICK * 1000):
            _stop()
    _end(child)  # what it started and left behind
    _running.clear()
    answer: dict[str, Any] = {"seconds": round(time.monotonic() - started, 2), "late": late}
    if os.WIFSIGNALED(status):
        answer["signal"] = os.WTERMSIG(status)
    else:
        answer["status"] = os.WEXITSTATUS(status)
    return answer


def _be(job: dict[str, Any], become: Callable[[dict[str, Any]], int]) -> None:
    """Do the job in this fork, and end with it."""
    status = 3
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if job["cache"]:
            os.environ["XDG_CACHE_HOME"] = job["cache"]
        status = become(job)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)

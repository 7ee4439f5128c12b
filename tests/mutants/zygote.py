# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run one pytest after the other, each in a fork of this process, which has imported what none of them changes.

Jobs come as lines of JSON on standard input, `{"tree": …, "plan": …, "arguments": […], "seconds": 30, "log": …}`; for
each a line goes out: what the plugin `inside` wrote about the run, and how it ended. Nothing of the project is imported
here, so that each fork imports it from the tree of its job.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# No plugins of pytest: it has to see them first, to rewrite their asserts.
_IMPORTED = (
    *("pytest", "execnet", "pyroute2", "scapy.config", "msgspec", "jinja2", "pygal"),
    *("platformdirs", "filelock", "rich.console", "rich.live", "junitparser", "elftools.elf.elffile", "coverage"),
    *("importlib.metadata", "xml.etree.ElementTree", "qemu.qmp"),
)
_TICK = 0.02

_running: list[int] = []
"""The fork that runs, if one does."""


def main() -> None:
    """Serve until standard input ends."""
    jobs, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    signal.signal(signal.SIGTERM, _stop)
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in jobs:
        os.write(answers, (json.dumps(_run(json.loads(line))) + "\n").encode())


def _stop(*_: object) -> None:
    """End with the fork that runs."""
    for child in _running:
        _end(child)
    os._exit(143)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job; return how it ended: `status` of pytest, or `signal`, or `late`."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(job)
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
        time.sleep(_TICK)
    _end(child)  # what it started and left behind
    _running.clear()
    answer: dict[str, Any] = {"seconds": round(time.monotonic() - started, 2), "late": late}
    if os.WIFSIGNALED(status):
        answer["signal"] = os.WTERMSIG(status)
    else:
        answer["status"] = os.WEXITSTATUS(status)
    return answer


def _end(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _become(job: dict[str, Any]) -> None:
    """Be the job's pytest, in this fork, and end with it."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        tree = job["tree"]
        os.chdir(tree)
        sys.path[:] = [tree, *(entry for entry in sys.path if Path(entry or ".").resolve() != Path(job["root"]))]
        sys.argv = ["pytest", *job["arguments"]]
        sys.dont_write_bytecode = not job["warm"]
        os.environ["MUTANTS_PLAN"] = job["plan"]
        if job["cache"]:
            os.environ["XDG_CACHE_HOME"] = job["cache"]
        # The names of this package are the root's; the tree's link leads to the same files.
        for name in [name for name in sys.modules if name == "tests" or name.startswith("tests.")]:
            del sys.modules[name]
        pytest = importlib.import_module("pytest")
        status = int(pytest.main(job["arguments"]))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()

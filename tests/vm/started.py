# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Start pytest as a user does, in a directory of its own, and see what is left when it has ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KERNEL = "6.1"
"""Has bpf_loop() (5.17), which the planted lock-ups are made of."""

sys.path.insert(0, str(ROOT / "tests/unit"))

from runs import foreground, inherited_environment  # noqa: E402

_CONFIGURATION = "[tool.pytest]\naddopts = ['-p', 'vm.plugin', '-p', 'no:cacheprovider', '-ra']\n"
_TOKEN = "REUSEPORT_TEST_TOKEN"  # in the environment of the run and of all that it starts
_LOOK_EVERY = 0.05  # seconds


@dataclass(kw_only=True)
class Started:
    """A run of pytest."""

    directory: Path
    process: subprocess.Popen[bytes]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def output(self) -> str:
        """Return what it has said until now."""
        return (self.directory / "output").read_text()

    @property
    def results(self) -> Any:
        """Return what it left in results.json."""
        return json.loads((self.directory / "results/latest/results.json").read_text())

    @property
    def console(self) -> str:
        """Return what its only kernel has said until now."""
        return "".join(file.read_text(errors="replace") for file in self.directory.glob("results/[0-9]*/*/console.log"))

    @property
    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each case of its only kernel, by its function's name."""
        (kernel,) = self.results["kernels"]
        return {case["id"].partition("::")[2]: case["outcome"] for case in kernel["cases"]}

    def wait_until(self, what: str, *, where: str = "output", seconds: float = 200) -> None:
        """Wait until it has said so in its `output`, or its kernel on the `console`."""
        self.wait_for(lambda: what in getattr(self, where), what, seconds=seconds)

    def wait_for(self, condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
        """Wait until a condition holds, which `what` names, while the run goes on."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended without {what!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"there is no {what!r} in {seconds} s:\n{self.output}"
            time.sleep(_LOOK_EVERY)

    def interrupt(self) -> None:
        """Do what Ctrl-C in its terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, *, seconds: float = 300) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(seconds)

    def processes(self, name: str = "") -> dict[int, str]:
        """Return those that it started and that are there still, `name` among their words, with their command lines."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if f"{_TOKEN}={self.token}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                    words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    if name in words[0]:
                        found[int(directory.name)] = " ".join(words)
        return found

    def left(self, *, seconds: float = 10) -> list[str]:
        """Return the processes and temporary files that are there still, once nothing more goes away."""
        deadline = time.monotonic() + seconds
        while self.processes() and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
        # pytest keeps the last three of its own temporary directories.
        files = [str(file) for file in (self.directory / "tmp").glob("*") if not file.name.startswith("pytest-of-")]
        return [*self.processes().values(), *files]


@contextlib.contextmanager
def started(
    directory: Path,
    *arguments: str,
    cases: str = "",
    source: Path = HERE / "trouble.py",
    variables: Mapping[str, str] = {},
    command: Sequence[str] = (),
) -> Iterator[Started]:
    """Run pytest with a copy of `source` as the only file of cases, those that `cases` (-k) names.

    With `command` run that module with its arguments instead. Whatever it started is ended with the context.
    """
    (directory / "tmp").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(_CONFIGURATION)
    shutil.copy(source, directory)
    token = uuid.uuid4().hex
    environment = {
        **inherited_environment(),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(directory / "tmp"),
        _TOKEN: token,
        **variables,
    }
    words = command or ["pytest", *(["-k", cases] if cases else []), *arguments, source.name]
    with (directory / "output").open("wb") as output, foreground():
        # A group of its own, as a shell gives to a job.
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    run = Started(directory=directory, process=process, token=token)
    try:
        yield run
    finally:
        for pid in run.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run pytest with kernels as a user does, and read what the run left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]

FAKE_VM = f"{sys.executable} -S {Path(__file__).with_name('fake_vm.py')}"
"""The command of the process that takes the place of a VM."""

CONFIGURATION = "[tool.pytest]\naddopts = ['-p', 'vm.plugin', '-p', 'no:cacheprovider', '-p', 'no:hypothesispytest']\n"


@dataclass(frozen=True)
class Run:
    """A finished run in a directory."""

    status: int
    output: str
    directory: Path  # results/latest

    @property
    def results(self) -> Any:
        return json.loads((self.directory / "results.json").read_text())

    def kernel(self, name: str | None = None) -> Any:
        """Return the results of the kernel `name`, or of the only one."""
        kernels = self.results["kernels"]
        (kernel,) = kernels if name is None else [kernel for kernel in kernels if kernel["name"] == name]
        return kernel

    def cases(self, kernel: str | None = None) -> dict[str, str]:
        """Return the outcome of each case by its function's name."""
        return {case["id"].partition("::")[2]: case["outcome"] for case in self.kernel(kernel)["cases"]}

    def case(self, name: str, *, kernel: str | None = None) -> Any:
        """Return the results of the case whose function is `name`."""
        (case,) = [case for case in self.kernel(kernel)["cases"] if case["id"].endswith(f"::{name}")]
        return case


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without what pytest has added to it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """Return an environment in which pytest runs as if nobody had run it from pytest, its cache in `directory`."""
    return {
        **inherited_environment(),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(directory / "cache"),
        # A run in VMs collects here only to keep the bytecode.
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Have Ctrl-C end the processes that are started meanwhile, wherever the tests themselves run.

    What a shell without job control starts in the background ignores SIGINT, and so does all that it starts in turn.
    """
    # A handler does not outlive exec, as SIG_IGN does: the new process has the default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_pytest(
    directory: Path,
    arguments: Sequence[str],
    *,
    source: str,
    variables: Mapping[str, str],
    seconds: float = 90,
    command: Sequence[str] = ("-m", "pytest"),
) -> Run:
    """Run `source` as the only file of cases in `directory`; `command` is what Python runs for pytest."""
    (directory / "pyproject.toml").write_text(CONFIGURATION)
    (directory / "test_topic.py").write_text(source)
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=directory,
        env=environment(directory, **variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr, directory / "results" / "latest")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the cases on this kernel and print what they came to as KTAP; reuseport.sh calls this in an export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROJECT = Path(__file__).resolve().parents[2]
"""Not from vm.base: that needs packages, and which are missing here is not known yet."""

_CHECK = """
from harness.kernel.preflight import missing_requirement
print(missing_requirement() or "")
"""

_RESULTS = "results: "

_HELP = """\
usage: python -m vm.kselftest [-k EXPRESSION] [arguments for pytest]

Run the cases on this kernel, as root, and print the results as a selftest of the kernel tree does (KTAP). The arguments
choose cases: -k 'reference and udp', or files such as cases/test_reference.py. 'tox -e host -- --help' lists all.
'python -m vm export-kselftest DIR' writes the files that make this a selftest of a kernel tree (docs/kselftest.md).
Exit status: 0 passed, 1 something failed, 4 it cannot run here, or every case was skipped."""


def main(arguments: Sequence[str]) -> int:
    """Run the cases that pytest selects by `arguments`; return a selftest's exit status."""
    if {"-h", "--help"} & {*arguments}:
        print(_HELP)
        return 0
    # The one place that knows where the KTAP comes from: a run's results, once it has ended.
    try:
        from vm.kselftest import ktap  # noqa: PLC0415  # nothing of the project can be imported without its packages
        from vm.report import results  # noqa: PLC0415
    except ModuleNotFoundError as error:
        return _skip(
            f"the Python package {error.name} is missing: run ./bootstrap in {PROJECT}, and use its .venv/bin/python"
        )
    check = subprocess.run([sys.executable, "-c", _CHECK], cwd=PROJECT, capture_output=True, text=True, check=False)
    if check.returncode:
        return _skip(f"the harness cannot be imported: {_last(check.stderr)}")
    if reason := check.stdout.strip():
        return _skip(reason)
    done = subprocess.run(
        [sys.executable, *_command(), *arguments], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    directory = next((line[len(_RESULTS) :] for line in done.stdout.splitlines() if line.startswith(_RESULTS)), None)
    if directory is None:
        _print(["TAP version 13", "1..1", *(f"# {line}" for line in done.stdout.splitlines()), "not ok 1 pytest"])
        return 1
    (kernel,) = results.read(PROJECT / directory).kernels
    _print(ktap.lines(kernel))
    return ktap.status(kernel)


def _command() -> list[str]:
    # As `tox -e host` runs the cases (tox.ini).
    words = ["-m", "pytest", "-c", f"{PROJECT}/pyproject.toml", f"--rootdir={PROJECT}"]
    words += ["-p", "harness.plugin", "-p", "vm.plugin", "--where-possible"]
    # Where a machine is slow, it is no time for bcc to compile.
    return [*words, "--witness=none"] if os.environ.get("KSFT_MACHINE_SLOW") == "yes" else words


def _skip(reason: str) -> int:
    _print(["TAP version 13", f"1..0 # SKIP {reason}"])
    return 4


def _last(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _print(lines: Iterable[str]) -> None:
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

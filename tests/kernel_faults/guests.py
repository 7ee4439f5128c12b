# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A VM that runs cases under faults, as the host sees it: `tests.kernel_faults.guest` in `python -m vm run`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vm.guest.bytecode import FILE

from .guest import MARK, SECONDS_OF_A_CASE
from .ordering import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]

BYTECODE = "cases.bytecode"
"""The file in the kernel's directory from which its guests import."""

_SECONDS_TO_BE_READY = 600
_SILENCE = 2 * SECONDS_OF_A_CASE + 30  # a guest that can speak has told of a hang before

_ARGUMENTS = (
    *("-c", f"{ROOT}/pyproject.toml", "--rootdir", str(ROOT)),
    *("-p", "harness.plugin", "-p", "tests.kernel_faults.guest", "-q", "-q", "-p", "no:cacheprovider"),
    # A bug that the ledger expects may be mended here: a case that fails with no fault on is left out, xfail or not.
    *("--witness", "none", "--runxfail", str(ROOT / "cases")),
)


def prepare(bytecode: Path) -> None:
    """Collect the cases here, so that guests find the bytecode of them and, in the file, of all else.

    A guest keeps no files. What goes wrong goes wrong in the guest again, which tells it.
    """
    subprocess.run(
        [sys.executable, "-m", "pytest", *_ARGUMENTS, "--collect-only", "-p", "vm.guest.bytecode"],
        cwd=ROOT,
        env={**os.environ, FILE: str(bytecode)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the VMs are started, and the cases in them."""

    vm: tuple[str, ...] = ()  # options of `vm run`
    pytest: tuple[str, ...] = ()


def command(kernel: Path, manner: Manner) -> list[str]:
    """Return the command that has the worker's input and output for its own."""
    start = ["python", "-m", "tests.kernel_faults.start", str(kernel / BYTECODE), *manner.pytest, *_ARGUMENTS]
    return [sys.executable, "-m", "vm", "run", *manner.vm, str(kernel), "--", *start]


class LostError(Exception):
    """A VM was lost; the message says how, `case` during which case."""

    def __init__(self, why: str, *, hang: bool, case: int | None) -> None:
        super().__init__(why)
        self.hang, self.case = hang, case


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of a job."""

    outcome: str  # passed, failed, splat, hang, died
    seconds: float
    case: int | None = None
    why: str = ""
    failures: tuple[int, ...] = ()
    reached: tuple[dict[str, Any], ...] = ()  # as `reach.from_guest` takes it


class Guest:
    """A VM with the cases collected, from `with` on."""

    cases: tuple[Case, ...]
    release: str

    def __init__(self, kernel: Path, manner: Manner) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._said: list[str] = []
        self._process = subprocess.Popen(
            command(kernel, manner),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the run, which ends its VMs
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._read, daemon=True).start()
        try:
            ready = self._next(_SECONDS_TO_BE_READY, case=None)
            self.cases = tuple(Case(id=one["id"], promises=tuple(one["promises"])) for one in ready["cases"])
            self.release = ready["release"]
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, fault: int, cases: Sequence[int], *, stop: bool = True, reach: bool = False) -> Done:
        """Run `cases`, by their places, under `fault`, to the first that fails or to the last. Raises LostError."""
        assert self._process.stdin is not None
        job = {"fault": fault, "cases": list(cases), "stop": stop, "reach": reach}
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LostError(self._last_words(), hang=False, case=None) from None
        case, reached = None, []
        while True:
            said = self._next(_SILENCE, case=case)
            event = said.pop("event")
            if event == "begin":
                case = said["case"]
            elif event == "reached":
                reached.append(said)
            else:
                return Done(**{**said, "failures": tuple(said.get("failures", ())), "reached": tuple(reached)})

    def _next(self, seconds: float, *, case: int | None) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise LostError(f"silent for {seconds} s", hang=True, case=case) from None
        if line is None:
            why = self._last_words()
            raise LostError(why, hang="lockup" in why or "hung_task" in why, case=case)
        said: dict[str, Any] = json.loads(line)
        return said

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            before, mark, after = line.partition(MARK.encode())
            if mark:
                self._lines.put(after)
            if text := before.decode(errors="replace").rstrip():
                self._said.append(text)
        self._lines.put(None)

    def _last_words(self) -> str:
        """Return the line that says most of the end of the VM."""
        self._process.wait(timeout=60)
        for sign in ("Kernel panic", "BUG:", "Oops", "WARNING:", "rror"):
            for line in reversed(self._said):
                if sign in line:
                    return line[line.index(sign) :][:200] if sign == "Kernel panic" else line.strip()[:200]
        return (self._said or ["the VM ended"])[-1][:200]

    def end(self) -> None:
        """End the VM: its command has no more input and is not waited for."""
        if self._process.poll() is None:
            self._process.terminate()  # a shell's background job, and what it starts, ignores SIGINT
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

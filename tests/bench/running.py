# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Take the rounds: on the running kernel, in a VM, or on the host that boots VMs. What is measured is kept at once."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import kept
from .inside import MARK
from .measurement import Desk, Measurement, MeasuringError, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.base.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
FILE = "bench.json"


@dataclass
class Running:
    """One run of the bench."""

    directory: Path
    built: Path
    kernel: str | None  # None: the running one
    rounds: int  # 0: as many as each measurement has
    progress: Progress
    bench: kept.Bench | None = None

    def measure(self, chosen: Sequence[Measurement]) -> int:
        """Measure; return the status of the process that measured inside, 0 if there was none."""
        inside = [one for one in chosen if one.place is Place.INSIDE]
        # A VM says what machine it is, also for what is measured around it.
        status = self._inside(inside) if inside or self.kernel is not None else 0
        for one in chosen:
            if one.place is Place.OUTSIDE and not status:
                self._outside(one)
        return status

    def _inside(self, chosen: Sequence[Measurement]) -> int:
        names = [one.name for one in chosen]
        command = [sys.executable, "-m", "tests.bench.inside", str(self.built), str(self.rounds), *names]
        if self.kernel is not None:
            self.progress(f"booting {self.kernel}")
            command = [sys.executable, "-m", "vm", "run", self.kernel, "--", *command]
        with _started(command) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(MARK):
                    self._take(json.loads(line.removeprefix(MARK)))
                else:
                    self.progress.tell(line.rstrip())
            return process.wait()

    def _outside(self, one: Measurement) -> None:
        if self.kernel is None:
            self._note_failure(one.name, "it boots VMs: name their kernel, --kernel 6.1")
            return
        self.progress(f"{one.name}: getting ready")
        try:
            with one.prepare(Desk(built=self.built, kernel=self.kernel)) as take:
                for number in range(self.rounds or one.rounds):
                    self.progress(f"{one.name}: round {number + 1}")
                    self._take({"name": one.name, "number": number, "round": dict(take())})
        except MeasuringError as error:
            self._note_failure(one.name, str(error))

    def _take(self, said: dict[str, Any]) -> None:
        if "machine" in said:
            self.bench = kept.Bench(machine=kept.Machine(**said["machine"]), day=f"{datetime.now(UTC):%Y-%m-%d}")
        elif "failure" in said:
            self._note_failure(said["name"], said["failure"])
            return
        else:
            self.progress(f"{said['name']}: round {said['number'] + 1} has ended")
            self._bench.rounds.setdefault(said["name"], []).append(said["round"])
        kept.write(self.directory / FILE, [self._bench])

    def _note_failure(self, name: str, why: str) -> None:
        self.progress.tell(f"{name} was not measured: {why}")
        self._bench.failures[name] = why
        kept.write(self.directory / FILE, [self._bench])

    @property
    def _bench(self) -> kept.Bench:
        """Return what was measured; without a part inside, the machine is the host and the kernel its own."""
        if self.bench is None:
            self.bench = kept.Bench(machine=kept.Machine.present(), day=f"{datetime.now(UTC):%Y-%m-%d}")
        return self.bench


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start what measures; end it, and its VM with it, however the context ends."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise

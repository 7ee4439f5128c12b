# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What came out of the trials: a table for the terminal, a file for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.interface.atomic import write_text

from .live import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .command import Done
    from .root import Distribution, Package
    from .steps import Step


_ALL_COLUMNS = 110
"""Columns that the whole table needs, so that no word of it is broken."""


class Outcome(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class StepResult:
    """A step in one root."""

    step: Step
    outcome: Outcome = Outcome.NOT_RUN
    status: int | None = None  # the command's exit status
    seconds: float = 0
    packages: Sequence[Package] = ()  # installed by it
    disk: int = 0  # bytes that the root takes afterwards
    left: Sequence[str] = ()  # processes that it left running
    why: str = ""  # it was not run
    log: Path | None = None

    @classmethod
    def of(cls, step: Step, done: Done, *, log: Path, packages: Sequence[Package], disk: int) -> StepResult:
        """Return the result of a command that has ended: passed with status 0, and nothing left running."""
        return cls(
            step,
            outcome=Outcome.FAILED if done.status or done.left else Outcome.PASSED,
            status=done.status,
            seconds=done.seconds,
            packages=packages,
            disk=disk,
            left=done.left,
            log=log,
        )

    @classmethod
    def not_run(cls, step: Step) -> StepResult:
        """Return the result of a step whose root could not be made."""
        return cls(step, why="there is no root")

    @property
    def described(self) -> str:
        """Return the outcome and its reason in one line."""
        reasons = [f"status {self.status}"] if self.status else []
        reasons += [f"left running: {process}" for process in self.left]
        if self.why:
            reasons.append(self.why)
        return ", ".join([self.outcome.value, *reasons])

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds of it."""
        return {
            "name": self.step.name,
            "command": self.step.typed,
            "user": self.step.user,
            "outcome": self.outcome.value,
            "exit": self.status,
            "seconds": self.seconds,
            "packages": packages_to_json(self.packages),
            "disk_bytes": self.disk,
            "left_running": list(self.left),
            "why": self.why,
            "log": None if self.log is None else self.log.name,
        }


@dataclass(frozen=True)
class RootResult:
    """A distribution, with all that was tried in its root."""

    distribution: Distribution
    seconds: float  # to make the root
    packages: Sequence[Package]  # of the root before the first step
    disk: int  # bytes of the root before the first step
    error: str  # "" when the root was made
    steps: Sequence[StepResult]

    @property
    def passed(self) -> bool:
        """Return whether there was a root in which every step passed."""
        return not self.error and all(step.outcome is Outcome.PASSED for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds of it."""
        return {
            "name": self.distribution.name,
            "release": self.distribution.release,
            "passed": self.passed,
            "error": self.error,
            "seconds": self.seconds,
            "packages": packages_to_json(self.packages),
            "disk_bytes": self.disk,
            "steps": [step.to_json() for step in self.steps],
        }


def packages_to_json(packages: Sequence[Package]) -> dict[str, Any]:
    """Return the number, the installed size and the versions of packages."""
    ordered = sorted(packages, key=lambda package: package.name)
    return {
        "number": len(ordered),
        "bytes": sum(package.kilobytes for package in ordered) * 1024,
        "versions": {package.name: package.version for package in ordered},
    }


def table(results: Sequence[RootResult], *, width: int) -> Table:
    """Return the table of all roots and steps; on a terminal of few columns without packages and sizes."""
    sizes = ("packages", "installed", "disk") if width >= _ALL_COLUMNS else ()
    shown = Table("root", "command", "as", *sizes, "time", "outcome")
    for result in results:
        outcome = f"failed: {result.error}" if result.error else "made"
        shown.add_row(
            result.distribution.name,
            "(minimal installation)",
            "",
            *_sizes(result.packages, result.disk)[: len(sizes)],
            clock(result.seconds),
            outcome,
        )
        for step in result.steps:
            shown.add_row(
                "",
                step.step.typed,
                step.step.user,
                *_sizes(step.packages, step.disk, sign="+")[: len(sizes)],
                clock(step.seconds),
                step.described,
            )
        shown.add_section()
    return shown


def _sizes(packages: Sequence[Package], disk: int, *, sign: str = "") -> tuple[str, str, str]:
    megabytes = round(sum(package.kilobytes for package in packages) * 1024 / 1e6)
    return f"{sign}{len(packages)}", f"{sign}{megabytes} MB", f"{disk / 1e9:.1f} GB"


def write(directory: Path, results: Sequence[RootResult], facts: dict[str, Any]) -> Path:
    """Write fresh.json into `directory`: `facts` about the run, and every root; return its path."""
    content = {"schema": 1, **facts, "roots": [result.to_json() for result in results]}
    return write_text(directory / "fresh.json", json.dumps(content, indent=2) + "\n")

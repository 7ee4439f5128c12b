# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a run leaves in results/<run>/results.json. docs/results.md describes it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict, TypeVar

import msgspec

from harness.interface import atomic
from harness.interface.results_file import DIRECTORY, FILE, LATEST, SCHEMA, load
from vm.base.paths import PROJECT
from vm.report.outcomes import CaseOutcome, KernelOutcome

if TYPE_CHECKING:
    from datetime import datetime

ROOT = (PROJECT if (PROJECT / "pyproject.toml").is_file() else Path.cwd()) / DIRECTORY
"""The directory of results: in the checkout, or where an installed copy is called."""


Read = TypeVar("Read")


class PartEntry(TypedDict):
    """A part of what a case compared: harness.interface.keys.PARTS."""

    expected: str
    observed: str
    differs: bool
    meaning: str


class FieldEntry(TypedDict):
    """A field of a packet, from byte `start` to before `end`: harness.interface.keys.FRAMES."""

    name: str
    value: str
    start: int
    end: int
    key: bool


class PacketEntry(TypedDict):
    """A packet that a failed case sent: harness.interface.keys.FRAMES."""

    layers: str
    data: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
    fields: NotRequired[list[FieldEntry]]


class BugEntry(TypedDict):
    """A bug of the ledger that a case shows: harness.interface.keys.LEDGER."""

    name: str
    state: str
    commit: str
    subject: str


@dataclass(kw_only=True)
class CaseResult:
    """The result of one case on one kernel."""

    id: str
    outcome: CaseOutcome
    seconds: float  # set-up and tear-down included
    reason: str = ""  # of a failure (its first line), a skip, an expected failure
    observed: Any = None  # what the case observed, as it says itself; compared between kernels
    missing_feature: str | None = None
    detail: str = ""  # the whole report of a failure
    story: str | None = None  # what the witness saw of it, as text: a file, relative to this one
    pcap: str | None = None  # the frames of it: a file, relative to this one
    parts: list[PartEntry] = field(default_factory=list)  # of a failure: expected and observed, part by part
    packets: list[PacketEntry] = field(default_factory=list)  # of a failure: the last that were sent
    measured: list[dict[str, Any]] = field(default_factory=list)  # as harness.interface.measured has it
    bugs: list[BugEntry] = field(default_factory=list)  # of the ledger that it shows, as harness hands them over


@dataclass(kw_only=True)
class SplatResult:
    """One complaint of a kernel on its console."""

    kind: str
    title: str
    case: str | None  # that was running; None: none was
    excerpt: str


@dataclass(kw_only=True)
class KernelResult:
    """The result of one kernel."""

    name: str
    outcome: KernelOutcome = KernelOutcome.PASSED
    machine: str = ""  # that it ran on, as --on has it; "" for the one that the run was started on
    reason: str = ""  # why it could not be fetched, booted, or kept
    release: str = ""  # as the guest itself reported it (uname -r)
    version: str = ""  # of the distribution's package
    cmdline: str = ""
    accel: str = ""  # "kvm", "tcg", "native"
    append: list[str] = field(default_factory=list)  # kernel parameters that the user added
    memory: int | None = None  # MiB of each VM
    cpus: int | None = None  # of each VM
    boot_seconds: float | None = None  # of its first VM
    suite_seconds: float | None = None  # from the first boot to the last case
    vms: int = 0
    notes: list[str] = field(default_factory=list)  # options that it lacks, what the guest could not set up
    console: str | None = None  # relative to this file
    splats: list[SplatResult] = field(default_factory=list)
    cases: list[CaseResult] = field(default_factory=list)


@dataclass(kw_only=True)
class FunctionResult:
    """What a test function says of itself: its cases' promise."""

    says: str  # the first paragraph of its docstring
    promises: list[str]  # of docs/rules.md, by their ids
    bugs: list[str]  # of the ledger


@dataclass(kw_only=True)
class RunResult:
    """The result of a run."""

    schema: int = SCHEMA
    command: list[str]
    started: str  # ISO 8601, UTC
    duration: float  # seconds
    exit: int
    outcome: str  # a KernelOutcome; "interrupted" and so on where pytest ended the run
    tools: dict[str, str]  # versions
    kernels: list[KernelResult]
    functions: dict[str, FunctionResult] = field(default_factory=dict)
    """By the part of their cases' ids before the parameters."""
    merged: list[str] = field(default_factory=list)  # the runs that this one was made of, by their starts


_OPTIONAL = ("pcap", "parts", "packets", "measured", "bugs")
"""Fields of a case that are left out where they are empty: they would be half of the file."""


def write(run: RunResult, directory: Path) -> Path:
    """Write results.json into `directory`, whole or not at all; return its path."""
    return write_text(directory / FILE, to_json(run))


def to_json(run: RunResult) -> str:
    """Return the content of results.json: a case a line."""
    head = {**vars(run), "functions": {name: vars(function) for name, function in run.functions.items()}}
    del head["kernels"]
    kernels = ",\n".join(map(_kernel_to_json, run.kernels))
    return f'{json.dumps(head, indent=1, default=str)[:-2]},\n "kernels": [\n{kernels}\n ]\n}}\n'


def _kernel_to_json(kernel: KernelResult) -> str:
    head = {**vars(kernel), "splats": list(map(vars, kernel.splats))}
    del head["cases"]
    cases = ",\n".join(f"  {case_to_json(case)}" for case in kernel.cases)
    return f'{json.dumps(head, indent=1, default=str)[:-2]},\n "cases": [\n{cases}\n ]\n}}'


def case_to_json(case: CaseResult) -> str:
    """Return a case's entry, on one line."""
    entry = {name: value for name, value in vars(case).items() if value or name not in _OPTIONAL}
    return json.dumps(entry, default=str)


def write_text(path: Path, text: str) -> Path:
    """Write a file under a temporary name and move it to its own; return its path.

    In UTF-8 whatever the locale; a name that is none is escaped.
    """
    return atomic.write_text(path, text)


def read(path: Path) -> RunResult:
    """Read the results.json at `path`, or in the directory `path`.

    Raises OSError, and ValueError for a file that is no such results.
    """
    data = load(path)
    try:
        return _checked({**data, "schema": SCHEMA}, RunResult)
    except ValueError as error:
        raise ValueError(f"{path} holds no results: {error}") from error


def read_case(data: object) -> CaseResult:
    """Return the case that `case_to_json` wrote. Raises ValueError for anything else."""
    return _checked(data, CaseResult)


def read_kernel(data: object) -> KernelResult:
    """Return the kernel whose fields are those of `data`. Raises ValueError for anything else."""
    return _checked(data, KernelResult)


def _checked(data: object, kind: type[Read]) -> Read:
    """Return what JSON says as a value of a class, its parts too. Raises ValueError that names the field."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def new_directory(root: Path, *, started: datetime) -> Path:
    """Make and return root/<run> for a run; those that started in the same second get a number."""
    root.mkdir(parents=True, exist_ok=True)
    stamp = started.strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        directory = root / (stamp if number == 1 else f"{stamp}-{number}")
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
            return directory
    raise FileExistsError(f"{root} has a thousand runs of {stamp}")


def point_latest(directory: Path) -> None:
    """Make results/latest lead to `directory`."""
    link = directory.parent / LATEST
    temporary = directory.parent / f".{LATEST}.{os.getpid()}"
    temporary.symlink_to(directory.name)
    temporary.replace(link)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Merge runs into one: the jobs of a CI matrix, the kernels of several days."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from harness.interface.results_file import FILE
from vm.report import journal, results
from vm.report.outcomes import EXIT_STATUS, gravest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.report.results import CaseResult, KernelResult, RunResult


class MergeError(Exception):
    """A run cannot be merged; the message says which, and why."""


def read(directory: Path) -> RunResult:
    """Return a run's results: of one that was cut off what its journal has.

    Raises MergeError.
    """
    try:
        if not (directory / FILE).exists() and (directory / journal.FILE).exists():
            run = journal.read(directory)
        else:
            run = results.read(directory)
    except FileNotFoundError as error:
        raise MergeError(f"{directory} has neither {FILE} nor {journal.FILE}: it is no run") from error
    except (OSError, ValueError) as error:
        raise MergeError(str(error)) from error
    if not run.kernels:
        raise MergeError(f"{directory / FILE} has no kernels: there is nothing to report")
    return run


def merge(runs: Sequence[tuple[Path, RunResult]], *, into: Path) -> tuple[RunResult, list[str]]:
    """Return one run that has the kernels of all, and what there is to say about it; copy their files to `into`.

    A run that is given twice counts once. A kernel that two runs have is shown twice: the second one's name gets the
    start of its run. Raises MergeError for runs that are all the same one, OSError where files cannot be copied.
    """
    notes: list[str] = []
    distinct: dict[str, tuple[Path, RunResult]] = {}
    for directory, run in runs:
        key = results.to_json(run)
        if key in distinct:
            notes.append(f"{directory} is the run that {distinct[key][0]} has too: it counts once")
        distinct.setdefault(key, (directory, run))
    kernels: dict[str, KernelResult] = {}
    for directory, run in distinct.values():
        for kernel in run.kernels:
            name = kernel.name
            if name in kernels:
                name = _another_name(kernel.name, run.started, kernels)
                changed = sum(_outcomes(kernels[kernel.name]).get(case.id) != case.outcome for case in kernel.cases)
                verb = f"disagree on {changed} cases" if changed else "agree"
                notes.append(f"two runs of {kernel.name} {verb}; the second is shown as {name}")
            kernels[name] = _moved(kernel, name, source=directory, into=into)
    merged = [run for _, run in distinct.values()]
    first = min(merged, key=lambda run: run.started)
    verdict = gravest(kernel.outcome for kernel in kernels.values())
    return (
        replace(
            first,
            command=["python", "-m", "vm", "report", *(str(directory) for directory, _ in distinct.values())],
            duration=round(sum(run.duration for run in merged), 2),
            exit=max((run.exit for run in merged), key=_gravity),
            outcome=str(verdict),
            tools={name: version for run in merged for name, version in run.tools.items()},
            kernels=list(kernels.values()),
            functions={name: function for run in merged for name, function in run.functions.items()},
            merged=[start for run in merged for start in (run.merged or [run.started])],
        ),
        notes,
    )


def _gravity(status: int) -> int:
    """Return a number that is the greater the graver an exit status is; those that the table lacks are graver."""
    order = list(EXIT_STATUS.values())
    return -order.index(status) if status in order else 1


def _another_name(name: str, started: str, taken: dict[str, KernelResult]) -> str:
    stamp = started.replace(":", "").replace("-", "")[:15]
    wanted = f"{name}@{stamp}"
    number = 2
    while wanted in taken:
        wanted, number = f"{name}@{stamp}-{number}", number + 1
    return wanted


def _outcomes(kernel: KernelResult) -> dict[str, object]:
    return {case.id: case.outcome for case in kernel.cases}


def _moved(kernel: KernelResult, name: str, *, source: Path, into: Path) -> KernelResult:
    """Return a kernel under the name, with its files copied and named as they are there."""
    before = PurePath(kernel.name)
    for file in _files(kernel):
        if (source / file).is_file():
            target = into / _renamed(file, before, name)
            if not target.resolve().is_relative_to(into.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target)
            data = (source / file).with_suffix(".json")
            if file.endswith(".txt") and data.is_file():
                shutil.copyfile(data, target.with_suffix(".json"))

    def moved(file: str | None) -> str | None:
        return file and _renamed(file, before, name)

    def case(entry: CaseResult) -> CaseResult:
        if not (entry.story or entry.pcap):
            return entry
        return replace(entry, story=moved(entry.story), pcap=moved(entry.pcap))

    return replace(kernel, name=name, console=moved(kernel.console), cases=list(map(case, kernel.cases)))


def _files(kernel: KernelResult) -> Iterator[str]:
    """Yield the kernel's files that lie within the run's directory: results may come from anywhere."""
    named = [kernel.console, *(file for case in kernel.cases for file in (case.story, case.pcap))]
    for file in named:
        if file and not PurePath(file).is_absolute() and ".." not in PurePath(file).parts:
            yield file


def _renamed(file: str, before: PurePath, name: str) -> str:
    path = PurePath(file)
    return str(PurePath(name, *path.parts[1:])) if path.parts[:1] == before.parts[:1] else file

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""KTAP while the run goes on: each promise of a kernel once it is complete and all before it have been written.

A test that is nested has to stand within its own, so kernels that run at once are written one after the other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TextIO

from vm.report import functions, ktap
from vm.report.outcomes import CaseOutcome
from vm.report.results import CaseResult
from vm.report.tree import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from vm.report.results import KernelResult


class KtapStream:
    """The document as far as it is known; safe to call from any thread."""

    def __init__(self, kernels: Sequence[KernelResult], *, file: TextIO, root: Path) -> None:
        self._kernels = kernels
        self._file = file
        self._root = root
        self._expected: dict[str, list[str]] = {}
        self._finished: dict[str, dict[str, CaseResult]] = {kernel.name: {} for kernel in kernels}
        self._ended = False
        self._lines = self._document()
        self._lock = threading.Lock()
        self._pump()

    def expect(self, kernel: str, cases: Iterable[str]) -> None:
        """Take note of the cases that a kernel is going to run, once they have been collected."""
        with self._lock:
            self._expected.setdefault(kernel, list(cases))
            self._pump()

    def finish(self, kernel: str, case: CaseResult) -> None:
        """Take note of a case that has come to its end."""
        with self._lock:
            self._finished[kernel][case.id] = case
            self._pump()

    def end(self) -> None:
        """Write what is left: the kernels have been judged, and hold the cases that did not run."""
        with self._lock:
            for kernel in self._kernels:
                self._finished[kernel.name] = {case.id: case for case in kernel.cases}
                self._expected.setdefault(kernel.name, list(self._finished[kernel.name]))
            self._ended = True
            self._pump()

    def _pump(self) -> None:
        for line in self._lines:
            if line is None:
                break
            encoding = self._file.encoding or "utf-8"
            self._file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._file.flush()

    def _document(self) -> Iterator[str | None]:
        """Yield the lines; None where the next one is not known yet."""
        yield from ktap.head(len(self._kernels))
        for number, kernel in enumerate(self._kernels, start=1):
            while kernel.name not in self._expected:
                yield None
            yield from self._cases_of(kernel)
            while not self._ended:
                yield None
            yield from ktap.kernel_end(number, kernel)
        yield ktap.totals(case.outcome for kernel in self._kernels for case in kernel.cases)

    def _cases_of(self, kernel: KernelResult) -> Iterator[str | None]:
        expected = self._expected[kernel.name]
        texts = functions.read_cases(expected, root=self._root)
        topics = tree(expected, texts)
        if topics:
            yield from ktap.begin(kernel.name, len(topics), depth=1)
        for at, (title, promises) in enumerate(topics.items(), start=1):
            topic = ktap.apart(title, kernel.name, "topic")
            yield from ktap.begin(topic, len(promises), depth=2)
            for place, (key, names) in enumerate(promises.items(), start=1):
                while not self._ended and not self._finished[kernel.name].keys() >= set(names):
                    yield None
                promise = ktap.apart(key, topic, "promise")
                yield from ktap.promise_lines(place, promise, [self._case(kernel, name) for name in names])
            cases = [self._case(kernel, name) for names in promises.values() for name in names]
            yield from ktap.end(at, topic, cases, depth=2)

    def _case(self, kernel: KernelResult, name: str) -> CaseResult:
        """Return what a case came to; one that was announced and has no result did not run."""
        missing = CaseResult(id=name, outcome=CaseOutcome.NOT_RUN, seconds=0, reason="the run ended before")
        return self._finished[kernel.name].get(name, missing)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Put a run's results where their readers look."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from vm.base.storage import Refusal, refusal_of
from vm.report import functions, history, reports, results, summary
from vm.report.journal import Journal
from vm.report.ktap_stream import KtapStream
from vm.report.outcomes import EXIT_STATUS, KernelOutcome, conclude, gravest
from vm.report.results import RunResult
from vm.report.tools import versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from vm.report.history import History
    from vm.report.results import CaseResult, KernelResult

KTAP_FILE: pytest.StashKey[TextIO] = pytest.StashKey()
"""Where in a configuration the file is that KTAP goes to while the run goes on; see --ktap."""

UNPUBLISHED = EXIT_STATUS[KernelOutcome.INFRASTRUCTURE]
"""The exit status of a run that leaves no results, unless what its kernels did is graver."""


class ResultsError(Exception):
    """Results cannot be written; the message says why, and what to do."""


class Publication:
    """Judge a run, write its results, and sum it up in the terminal."""

    def __init__(self, config: pytest.Config, *, started: datetime) -> None:
        self._config = config
        self._started = started
        self._clock = time.monotonic()
        self._directory: Path | None = None
        self._failure = ""  # why there are no results
        self._journal: Journal | None = None
        self._stream: KtapStream | None = None
        self._history = history.History()
        self._complaint = ""  # why the history was not kept
        self.run: RunResult | None = None
        """The results, once the run has ended."""

    @property
    def seconds(self) -> float:
        """Return how long the run has taken so far."""
        return round(time.monotonic() - self._clock, 2)

    def begin(self, directory: Path, *, kernels: Sequence[KernelResult]) -> None:
        """Begin to write down what a run that is cut off leaves, and the stream that --ktap asks for."""
        self._journal = Journal(
            directory,
            command=self._command,
            started=self._started.isoformat(timespec="seconds"),
            kernels=[kernel.name for kernel in kernels],
        )
        if (file := self._config.stash.get(KTAP_FILE, None)) is not None:
            self._stream = KtapStream(kernels, file=file, root=self._config.rootpath)

    def expect(self, kernel: KernelResult, cases: Iterable[str]) -> None:
        """Take note of a kernel that is up, and of the cases that it is going to run."""
        self.note_kernel(kernel)
        if self._stream is not None:
            self._stream.expect(kernel.name, cases)

    def note_kernel(self, kernel: KernelResult) -> None:
        """Take note of what has become known of a kernel besides its cases."""
        if self._journal is not None:
            self._journal.note_kernel(kernel)

    def note(self, kernel: str, case: CaseResult) -> None:
        """Take note of a case that has come to its end."""
        if self._journal is not None:
            self._journal.note_case(kernel, case)
        if self._stream is not None:
            self._stream.finish(kernel, case)

    def publish(
        self, session: pytest.Session, exitstatus: int, *, kernels: list[KernelResult], directory: Path
    ) -> None:
        """Write what the kernels came to into `directory`, and give the session the exit status that says so.

        `exitstatus` is what pytest makes of the run.
        """
        self._directory = directory
        outcome, session.exitstatus = conclude(gravest(kernel.outcome for kernel in kernels), exitstatus)
        self.run = RunResult(
            command=self._command,
            started=self._started.isoformat(timespec="seconds"),
            duration=self.seconds,
            exit=int(session.exitstatus),
            outcome=outcome,
            tools=versions(),
            kernels=kernels,
            functions=functions.read(kernels, root=self._config.rootpath),
        )
        if self._stream is not None:
            self._stream.end()
        try:
            self._history, self._complaint = history.update(self._history_file(directory), self.run)
            write(self.run, directory, before=self._history)
            if self._journal is not None:
                self._journal.remove()
        except ResultsError as error:
            self._failure = str(error)
            if self._journal is not None:
                self._journal.close()
            session.exitstatus = status_without_results(int(session.exitstatus))

    def known(self, directory: Path) -> History:
        """Return what is known of earlier runs; nothing where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            return history.read(self._history_file(directory))
        return history.History()

    def sum_up(self, terminalreporter: Any) -> None:
        """Print the table of kernels and topics, what differs between kernels, and where the results are."""
        if self.run is not None:
            for line in summary.lines(self.run, self._history):
                terminalreporter.write_line(line)
            if self._complaint:
                terminalreporter.write_line(f"history: {self._complaint}")
            terminalreporter.write_line(self._failure or f"results: {self._directory}")

    @property
    def _command(self) -> list[str]:
        return ["pytest", *map(str, self._config.invocation_params.args)]

    def _history_file(self, directory: Path) -> Path:
        """Return the file of the history: --history's, or the one beside the runs."""
        given = self._config.getoption("history", default=None)
        return Path(given) if given else directory.parent / history.FILE


def root(config: pytest.Config) -> Path:
    """Return the directory that runs leave theirs in."""
    return config.rootpath / results.ROOT.name


def make_directory(config: pytest.Config, *, started: datetime) -> Path:
    """Make and return the directory that a run leaves its results in. Raises ResultsError."""
    with translate_oserror(root(config)):
        return results.new_directory(root(config), started=started)


def write(run: RunResult, directory: Path, *, before: History | None = None) -> None:
    """Write the results and the reports made from them, and have results/latest lead there.

    `before` is the history of earlier runs.

    Raises ResultsError; results/latest then leads where it led.
    """
    with translate_oserror(directory):
        write_reports(run, directory, before=before)
        results.point_latest(directory)


def write_reports(run: RunResult, directory: Path, *, before: History | None = None) -> None:
    """Write the results and the reports made from them. Raises OSError."""
    results.write(run, directory)
    reports.write(run, directory, history=before)


def status_without_results(status: int) -> int:
    """Return the exit status of a run whose results could not be written and which would have ended with `status`."""
    return UNPUBLISHED if status in (0, EXIT_STATUS[KernelOutcome.UNFINISHED]) else status


@contextlib.contextmanager
def translate_oserror(directory: Path) -> Iterator[None]:
    """Raise ResultsError, with a remedy, for an OSError of the file system that `directory` is on."""
    try:
        yield
    except OSError as error:
        raise results_error(directory, error) from error


def results_error(directory: Path, error: OSError) -> ResultsError:
    """Return the ResultsError for an error of the file system under `directory`."""
    match refusal_of(error):
        case Refusal.FULL:
            remedy = "free some space; each directory in results/ is a run of the past"
        case Refusal.FORBIDDEN:
            remedy = "give this user the directory, or run in a checkout that can be written"
        case Refusal.OTHER:
            remedy = "results/ has to be a directory that this user may write to"
    where, reason = error.filename or directory, error.strerror or str(error)
    return ResultsError(f"results cannot be written: {where}: {reason}. To mend it, {remedy}")

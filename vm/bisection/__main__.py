# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Judge the commit that is checked out for `git bisect run`; vm/bisect calls this, with --tree and --output first."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm.bisection import record as records
from vm.bisection import summary
from vm.bisection.options import read_options
from vm.bisection.record import Judgement, Record
from vm.bisection.repository import Bisection, Commit, Repository, RepositoryError
from vm.bisection.step import Bench, CannotGoOnError, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Status(enum.IntEnum):
    """The exit statuses. `git bisect run` takes 1 for new ("bad"): vm/bisect makes it of NEW, as 1 is Python's own."""

    OLD = 0
    NEW = 100
    SKIP = 125
    STOP = 128


def main(words: Sequence[str]) -> Status:
    """Do what vm/bisect was called for and return the exit status."""
    options, arguments = read_options(words)
    repository = Repository(tree=options.tree)
    try:
        if options.summary:
            return _sum_up(repository, options.output)
        bench = Bench(
            tree=options.tree,
            output=options.output,
            arguments=arguments,
            times=options.times,
            minimise=options.minimise,
        )
        begun = repository.bisection()
        given = [word for word in words if not word.startswith(("--tree=", "--output="))]
        record = _record_of(repository, begun, given, times=options.times, find_fix=options.find_fix)
        return Step(bench=bench, bisection=begun, record=record).take(repository)
    except (CannotGoOnError, RepositoryError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; `git bisect run` with the same options goes on from here", file=sys.stderr)
    return Status.STOP


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a bisection, or of none: then one commit is judged."""

    bench: Bench
    bisection: Bisection | None
    record: Record

    def take(self, repository: Repository) -> Status:
        """Judge the commit that is checked out; at the first step the ends first, after the last sum up."""
        bisection, record = self.bisection, self.record
        if bisection is None:
            return self._status(self.bench.judge(_here(repository), record))
        if not record.ends_checked:
            self._check_ends(bisection)
            record.ends_checked = True
            records.save(record, repository.record)
        judgement = self.bench.judge(repository.commit(), record)
        record.judged.append(judgement)
        records.save(record, repository.record)
        self._end(bisection, judgement)
        return self._status(judgement)

    def _check_ends(self, bisection: Bisection) -> None:
        """Judge the commits between which the bisection goes on. Raises CannotGoOnError when they are not as said.

        `git bisect run` takes the user's word for them, and with a wrong one it names any commit.
        """
        fine = "fails" if self.record.find_fix else "passes"
        bad = "passes" if self.record.find_fix else "fails"
        ends = [
            (bisection.new(), bisection.new_term, bad),
            *((one, bisection.old_term, fine) for one in bisection.old()),
        ]
        for commit, term, wanted in ends:
            say(f"checking that the {term} commit {commit} {wanted}")
            with bisection.repository.checked_out(commit):
                judgement = self.bench.judge(commit, self.record)
            if judgement.verdict != "untestable":
                self.record.judged.append(judgement)
            if judgement.verdict != wanted:
                raise CannotGoOnError(_not_as_said(judgement, term, wanted, times=self.record.times))

    def _end(self, bisection: Bisection, judgement: Judgement) -> None:
        """Sum up, if this was the last step."""
        commit = bisection.repository.commit(judgement.sha)
        match self._status(judgement):
            case Status.OLD:
                left, ended = bisection.left(old=commit)
            case Status.SKIP:
                left, ended = bisection.left(skipped=commit)
            case _:
                left, ended = bisection.left(new=commit)
        if not ended:
            return
        self.record.first, self.record.left = (left[0], []) if len(left) == 1 else ("", left)
        self._tell_story(bisection)
        records.save(self.record, bisection.repository.record)
        _print_summary(self.record, self.bench.output)

    def _tell_story(self, bisection: Bisection) -> None:
        """Have a failure of the first bad commit traced; a fix leaves nothing to trace."""
        first = self.record.of(self.record.first)
        if first is None or first.verdict != "fails":
            return
        shown = self.record.of(first.same_as) or first
        say(f"tracing a failure of {shown.sha[:12]}")
        with bisection.repository.checked_out(bisection.repository.commit(shown.sha)):
            self.bench.trace(shown)

    def _status(self, judgement: Judgement) -> Status:
        match judgement.verdict, self.record.find_fix:
            case ("untestable", _):
                return Status.SKIP
            case ("passes", False) | ("fails", True):
                return Status.OLD
            case _:
                return Status.NEW


def _record_of(
    repository: Repository, bisection: Bisection | None, options: list[str], *, times: int, find_fix: bool
) -> Record:
    """Return the record of this bisection; a new one if it has just begun or is run with other options."""
    begun = bisection.begun if bisection else 0
    known = records.load(repository.record) if bisection else None
    if known is not None and (known.begun, known.options) == (begun, options):
        return known
    return Record(begun=begun, options=options, times=times, find_fix=find_fix)


def _here(repository: Repository) -> Commit:
    try:
        return repository.commit()
    except RepositoryError:
        return Commit(sha="", subject=str(repository.tree))


def _not_as_said(judgement: Judgement, term: str, wanted: str, *, times: int) -> str:
    what = f'the {term} commit {judgement.sha[:12]} ("{judgement.subject}")'
    match judgement.verdict:
        case "untestable":
            return f"{what} cannot be built or booted, so nothing can be said of it: choose another"
        case "fails":
            cases = ", ".join(judgement.failed) or "the kernel complained on its console"
            return (
                f"{what} fails: {cases}. Any commit could be named between it and the other end. Choose another "
                f"{term} commit, or select with -k the cases that pass on it"
            )
        case _:
            more = (
                f" in {times} runs: give more --times, if it is a race, or"
                if times > 1
                else ": if it is a race, give --times N;"
            )
            return f"{what} {judgement.verdict}{more} choose another {term} commit, or select the cases that fail on it"


def _sum_up(repository: Repository, output: Path) -> Status:
    known = records.load(repository.record)
    if known is None:
        print(f"error: {repository.tree} has no bisection that vm/bisect was run in", file=sys.stderr)
        return Status.STOP
    _print_summary(known, output)
    return Status.OLD


def _print_summary(record: Record, output: Path) -> None:
    print("", *summary.lines(record, output=output), "", sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sum a bisection up, as text that can be pasted into a report."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vm.bisection.options import read_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.bisection.record import Judgement, Record


def lines(record: Record, *, output: Path) -> Iterator[str]:
    """Yield the commit, the command, the cases, the first failure, its story, and every step."""
    kind = "fixed" if record.find_fix else "bad"
    first = record.of(record.first) if record.first else None
    if first is not None:
        yield f'first {kind} commit: {first.sha[:12]} ("{first.subject}")'
        yield f"  {first.sha}"
    elif record.left:
        yield f"the first {kind} commit is one of these; all but the newest could not be tested:"
        yield from (f"  {sha}" for sha in record.left)
    else:
        yield f"the first {kind} commit is not found yet"
    failing = _shown(record, first)
    if failing is not None:
        yield ""
        yield f"on {failing.sha[:12]} ({failing.kernel or 'no report of the kernel'}):"
        yield from (f"  {_often(count, record.times)}: {case}" for case, count in failing.failed.items())
        yield from (f"  {line}" for line in failing.excerpt.splitlines())
        yield f"  all of it: {failing.results}"
    if failing is not None and failing.story:
        yield ""
        yield "what the kernel did, traced:"
        yield from (f"  {line}" for line in failing.story.splitlines())
    yield ""
    yield f"found by:  git bisect run vm/bisect {shlex.join(record.options)}".rstrip()
    own = [f"--times={record.times}"] * (record.times > 1)
    words = shlex.join([*own, *pytest_arguments(record)])
    yield f"by hand:   tox -e vm -- --kernel {output} {words}".rstrip()
    yield "judged:"
    yield from (f"  {_row(record, one)}" for one in record.judged)


def pytest_arguments(record: Record) -> list[str]:
    """Return the options of a bisection that are pytest's."""
    return read_options(record.options)[1]


def _shown(record: Record, first: Judgement | None) -> Judgement | None:
    """Return the commit whose failure is shown: the first bad one, or the last that was run and failed."""
    if first is not None and first.same_as:
        first = record.of(first.same_as)
    if first is not None and first.verdict == "fails":
        return first
    return next((one for one in reversed(record.judged) if one.verdict == "fails" and not one.same_as), None)


def _row(record: Record, one: Judgement) -> str:
    if one.same_as:
        said = f"same image as {one.same_as[:12]}"
    elif one.verdict == "untestable":
        said = "not built or not booted"
    elif record.times > 1:
        said = f"failed {max(one.failed.values(), default=0)} of {record.times} times"
    else:
        said = f"{len(one.failed)} cases failed" if one.failed else ""
    return f"{one.verdict:<10}  {one.sha[:12]}  {one.subject}" + (f"  ({said})" if said else "")


def _often(count: int, times: int) -> str:
    return f"failed {count} of {times} times" if times > 1 else "failed"

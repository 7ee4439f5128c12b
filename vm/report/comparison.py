# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find what two runs do not have in common: the cases whose outcome or observed value changed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.interface.results_file import FILE
from vm.report import results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.report.results import CaseResult, KernelResult

_WIDEST = 100


@dataclass(frozen=True, kw_only=True)
class Change:
    """One case that differs between two runs."""

    case: str
    what: str  # "outcome", "observed"
    before: str
    after: str


class NoSuchRunError(Exception):
    """A run is not there; the message names those that are."""


def find(word: str, *, root: Path) -> KernelResult:
    """Return the kernel's results that RUN[:KERNEL] means; RUN is a directory, a file, or a name under `root`.

    Raises NoSuchRunError.
    """
    run, _, kernel = word.rpartition(":")
    if not run or _path_of(word, root) is not None:
        run, kernel = word, ""
    path = _path_of(run, root)
    if path is None:
        if any(directory.is_dir() for directory in _meant(run, root)):
            raise NoSuchRunError(
                f"{run} has no {FILE}: it is no run, or one that was killed (python -m vm report {run}) or goes on"
            )
        raise _no_such_run(run, root)
    try:
        found = results.read(path)
    except (OSError, ValueError) as error:
        raise NoSuchRunError(str(error)) from error
    kernels = {result.name: result for result in found.kernels}
    if not kernel and len(kernels) == 1:
        return next(iter(kernels.values()))
    if kernel not in kernels:
        said = f"has no kernel {kernel}" if kernel else "has several kernels: say which, as RUN:KERNEL"
        raise NoSuchRunError(f"{run} {said}; it has {', '.join(kernels)}")
    return kernels[kernel]


def directory_of(word: str, *, root: Path) -> Path:
    """Return the directory that RUN means: a directory, its results.json, or a name under `root`.

    Raises NoSuchRunError.
    """
    for path in _meant(word, root):
        if path.is_dir():
            return path.resolve()
        if path.is_file() and path.name == FILE:
            return path.parent.resolve()
    raise _no_such_run(word, root)


def _no_such_run(word: str, root: Path) -> NoSuchRunError:
    names = sorted((entry.name for entry in root.glob("*") if (entry / FILE).is_file()), reverse=True)
    return NoSuchRunError(f"there is no run {word or repr(word)}; {root} has {', '.join(names[:10]) or 'none'}")


def changes(before: KernelResult, after: KernelResult) -> Iterator[Change]:
    """Yield what changed from `before` to `after`, in the order of the cases."""
    old = {case.id: case for case in before.cases}
    new = {case.id: case for case in after.cases}
    for case in dict.fromkeys([*old, *new]):
        was, now = old.get(case), new.get(case)
        if was is None or now is None or was.outcome != now.outcome:
            yield Change(case=case, what="outcome", before=_outcome(was), after=_outcome(now))
        if was is None or now is None:
            continue
        both_observed = was.observed and now.observed
        if was.observed != now.observed and (both_observed or was.outcome == now.outcome):
            one, other = _first_difference(was.observed, now.observed)
            yield Change(case=case, what="observed", before=one, after=other)


def _path_of(word: str, root: Path) -> Path | None:
    for path in _meant(word, root):
        if path.is_file() or (path / FILE).is_file():
            return path
    return None


def _meant(word: str, root: Path) -> list[Path]:
    """Return what is there of the two paths that a word can mean; the empty word means none."""
    # os.path, for pathlib raises OSError for a name that is too long to be one.
    return [path for path in (Path(word), root / word) if word and os.path.exists(path)]  # noqa: PTH110


def _outcome(case: CaseResult | None) -> str:
    if case is None:
        return "absent"
    return f"{case.outcome} ({case.reason})" if case.reason else str(case.outcome)


def _first_difference(one: Any, other: Any) -> tuple[str, str]:
    """Return both values, or of two long lists or mappings the first entries that differ."""
    if isinstance(one, list) and isinstance(other, list):
        for number, pair in enumerate(zip(one, other, strict=False)):
            if pair[0] != pair[1]:
                return f"[{number}] {_short(pair[0])}", f"[{number}] {_short(pair[1])}"
        return f"{len(one)} entries", f"{len(other)} entries"
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                return f"{key}: {_short(one.get(key))}", f"{key}: {_short(other.get(key))}"
    return _short(one), _short(other)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"

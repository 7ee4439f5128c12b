# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The order in which reports show cases: topics, in them promises, in them cases. Pure."""

from __future__ import annotations

from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from vm.report.functions import function_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vm.report.results import FunctionResult

Tree = dict[str, dict[str, list[str]]]
"""Topic to promise to the ids of the cases."""


def topic_of(case: str) -> str:
    """Return the topic of a case: its file's name."""
    return _topic_of_file(case.partition("::")[0])


@cache
def _topic_of_file(path: str) -> str:
    """Return the topic of a file; the cases of a run ask for the same few a hundred thousand times."""
    return PurePath(path).stem.removeprefix("test_")


def promise_of(case: str, functions: Mapping[str, FunctionResult]) -> str:
    """Return the id of the first promise that a case's function names; the function's name if it names none."""
    function = function_of(case)
    known = functions.get(function)
    if known is not None and known.promises:
        return known.promises[0]
    return (function.rpartition("::")[2] or function).removeprefix("test_")


def tree(cases: Iterable[str], functions: Mapping[str, FunctionResult]) -> Tree:
    """Return the cases by topic and promise, each in the order in which it comes first."""
    found: Tree = {}
    for case in cases:
        found.setdefault(topic_of(case), {}).setdefault(promise_of(case, functions), []).append(case)
    return found

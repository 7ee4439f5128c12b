# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix of a run as one compact JSON value, which vm/report/page/report.js draws. Pure.

`kernels`, `topics` and `cases` are lists, and everything else points into them by place. `promises`: topic, id, words,
functions and bugs. `cases`: promise and name. For each kernel `outcomes` has a letter for each case (CODES; "." where
the kernel has no such case), `times` hundredths of a second. `reasons`: for each kernel a case's place to its reason's
place in `words`. `anchors`: the same to where the page has the failure in full.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from vm.report.functions import function_of
from vm.report.outcomes import CaseOutcome
from vm.report.tree import Tree, tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vm.report.results import RunResult

CODES = {
    CaseOutcome.PASSED: "P",
    CaseOutcome.FAILED: "F",
    CaseOutcome.SKIPPED: "s",
    CaseOutcome.XFAILED: "x",
    CaseOutcome.XPASSED: "X",
    CaseOutcome.FEATURE_MISSING: "m",
    CaseOutcome.SPLAT: "S",
    CaseOutcome.LOST: "L",
    CaseOutcome.HUNG: "H",
    CaseOutcome.NOT_RUN: "n",
}

WORDS = {
    **{outcome: str(outcome) for outcome in CaseOutcome},
    CaseOutcome.XFAILED: "known bug",
    CaseOutcome.XPASSED: "bug is gone",
}
"""What the page calls each outcome."""

GRAVEST = (
    CaseOutcome.HUNG, CaseOutcome.LOST, CaseOutcome.SPLAT, CaseOutcome.FAILED, CaseOutcome.XPASSED,
    CaseOutcome.FEATURE_MISSING, CaseOutcome.NOT_RUN, CaseOutcome.XFAILED, CaseOutcome.PASSED, CaseOutcome.SKIPPED,
)  # fmt: skip
"""The outcomes in the order in which one gives a cell of many cases its colour."""

_LONGEST_REASON = 300


def cases_of(run: RunResult) -> Tree:
    """Return the cases of all kernels by topic and promise."""
    return tree(dict.fromkeys(case.id for kernel in run.kernels for case in kernel.cases), run.functions)


def data_of(run: RunResult, topics: Tree, *, anchors: Mapping[tuple[str, str], str]) -> Markup:
    """Return the value as JSON that can stand in a script element; `anchors` are by kernel and case."""
    promises: list[list[Any]] = []
    cases: list[list[Any]] = []
    places: dict[str, int] = {}
    for topic, (_, of_topic) in enumerate(topics.items()):
        for promise, names in of_topic.items():
            functions = list(dict.fromkeys(map(function_of, names)))
            texts = [run.functions[name] for name in functions if name in run.functions]
            bugs = sorted({bug for text in texts for bug in text.bugs})
            words = texts[0].says if texts else ""
            promises.append([topic, promise, words, [name.rpartition("::")[2] for name in functions], bugs])
            for name in names:
                places[name] = len(cases)
                cases.append([len(promises) - 1, name])
    words_of: dict[str, int] = {}
    outcomes, times, reasons = [], [], []
    for kernel in run.kernels:
        letters, seconds = ["."] * len(cases), [0] * len(cases)
        why: dict[int, int] = {}
        for case in kernel.cases:
            place = places[case.id]
            letters[place] = CODES[case.outcome]
            seconds[place] = round(case.seconds * 100)
            if case.reason:
                why[place] = words_of.setdefault(case.reason[:_LONGEST_REASON], len(words_of))
        outcomes.append("".join(letters))
        times.append(seconds)
        reasons.append(why)
    at = {kernel.name: number for number, kernel in enumerate(run.kernels)}
    found: list[dict[int, str]] = [{} for _ in run.kernels]
    for (name, id_), anchor in anchors.items():
        found[at[name]][places[id_]] = anchor
    value = {
        "kernels": [kernel.name for kernel in run.kernels],
        "topics": list(topics),
        "promises": promises,
        "cases": cases,
        "outcomes": outcomes,
        "times": times,
        "reasons": reasons,
        "words": list(words_of),
        "anchors": found,
        "names": {CODES[outcome]: WORDS[outcome] for outcome in CaseOutcome},
        "classes": {CODES[outcome]: slug(outcome) for outcome in CaseOutcome},
        "order": "".join(CODES[outcome] for outcome in GRAVEST),
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # "</script" and "<!--" would end the element, or change how it ends; in JSON, "<" stands in strings alone.
    return Markup(text.replace("<", "\\u003c"))


def slug(outcome: object) -> str:
    """Return an outcome as a class of CSS."""
    return str(outcome).replace(" ", "-")


def rows(run: RunResult, topics: Tree) -> Iterable[tuple[str, list[list[tuple[CaseOutcome, int]]]]]:
    """Yield each topic with its counts on each kernel, the gravest outcome first: the matrix without JavaScript."""
    counts: list[dict[str, Counter[CaseOutcome]]] = []
    of_topic = {name: topic for topic, promises in topics.items() for names in promises.values() for name in names}
    for kernel in run.kernels:
        found: dict[str, Counter[CaseOutcome]] = {}
        for case in kernel.cases:
            found.setdefault(of_topic[case.id], Counter())[case.outcome] += 1
        counts.append(found)
    for topic in topics:
        yield (
            topic,
            [sorted(found.get(topic, Counter()).items(), key=lambda pair: GRAVEST.index(pair[0])) for found in counts],
        )

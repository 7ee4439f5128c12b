# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness rules`: write docs/rules.md, the table of what a reuseport group promises.

A row is a promise. What it says is the docstring of the cases that carry its mark; what it rests on stands in
docs/rules.toml; the kernels that kept it stand in docs/rules-seen.json, where this command records them from runs.
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.runs import function_of, kernels_of
from harness.interface.atomic import write_text
from harness.interface.marks import ROOT, marked
from harness.kernel.ledger import State, bugs
from harness.kernel.release import Release

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from harness.commands.runs import KernelOutcomes
    from harness.interface.marks import MarkedCase

    Cases = Mapping[str, Sequence[MarkedCase]]  # by promise
    Basis = Mapping[str, Any]  # docs/rules.toml
    Seen = dict[str, dict[str, str]]  # by promise and kernel: "passed", or the bugs that its cases showed

NAME = "rules"
HELP = "write docs/rules.md, the table of promises"
DESCRIPTION = """\
Write docs/rules.md: what a reuseport group promises, from the cases' docstrings, and on which kernels it was seen. For
each RUN, first record which promises its kernels kept. Exit status: 0, or 2 when something cannot be read or written or
does not fit together."""

PAGE = ROOT / "docs/rules.md"
BASIS = ROOT / "docs/rules.toml"
SEEN = ROOT / "docs/rules-seen.json"
PASSED = "passed"

HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause -->
<!-- Written by `python -m harness rules` from the cases' docstrings, rules.toml and rules-seen.json: change those. -->
# What a reuseport group promises

One line a promise: what holds, the kernel function or man page that it rests on, the kernels where it was seen to hold,
and the case that checks it. Where a release has another name for a function, or none, the table says so. Cases name
their promises (`@promise("…")`); `python -m pytest cases -m promise` runs them. Where a kernel is known to break a
promise, the table names the bug. [The ledger](../harness/kernel/ledger.toml) describes it, and the case expects it;
`python -m harness ledger` prints which releases have which bug, and how the cases of the runs in `results/` came out.

`python -m harness rules` writes this page; `python -m harness rules results/latest` first records what the last run
saw, which has to be a run of every case.
"""


class RulesError(Exception):
    """Cases, docs/rules.toml, docs/rules-seen.json or a run's results that do not go together."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A row of the table."""

    name: str  # SECTION.WORDS
    says: str
    rests_on: str
    cases: tuple[str, ...]  # their ids; none if no case checks it
    unchecked: str = ""  # why no case checks it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the runs to record."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="the directory of a run of every case")


def run(arguments: argparse.Namespace) -> int:
    """Record the runs, write the page; return 2 where something cannot be read or does not go together."""
    try:
        cases = marked("promise")
        seen = read_seen(SEEN)
        for path in arguments.runs:
            for name in record(seen, kernels_of(path), cases):
                print(f"not recorded: {name}", file=sys.stderr)
        page = page_of(promises(cases, tomllib.loads(BASIS.read_text())), seen)
        if arguments.runs:
            write_text(SEEN, written(seen))
        write_text(PAGE, page)
    except (OSError, ValueError, KeyError, RulesError) as error:
        print(f"docs/rules.md is left as it is: {error}", file=sys.stderr)
        return 2
    return 0


def promises(cases: Cases, basis: Basis) -> dict[str, list[Promise]]:
    """Return the promises by their section, in the order of `basis`. Raises RulesError.

    A section of `basis` has `rests_on`; `others`, what single promises rest on instead; and `unchecked`, promises that
    no case checks: each with `says`, `rests_on` and `why`.
    """
    if strangers := [name for name in cases if name.partition(".")[0] not in basis]:
        raise RulesError(f"docs/rules.toml has no section for {', '.join(strangers)}")
    sections = {}
    for section, entry in basis.items():
        others, unchecked = entry.get("others", {}), entry.get("unchecked", {})
        checked = {name.partition(".")[2]: found for name, found in cases.items() if name.startswith(f"{section}.")}
        if both := [words for words in unchecked if words in checked]:
            raise RulesError(f"docs/rules.toml says of {section}.{both[0]} that no case checks it, and a case does")
        if nowhere := [words for words in others if words not in checked]:
            raise RulesError(f"no case has the mark of {section}.{nowhere[0]}, which docs/rules.toml names")
        sections[section] = [
            *(
                Promise(
                    name=f"{section}.{words}",
                    says=" ".join(dict.fromkeys(case.says for case in found)),
                    rests_on=others.get(words, entry["rests_on"]),
                    cases=tuple(case.id for case in found),
                )
                for words, found in checked.items()
            ),
            *(
                Promise(
                    name=f"{section}.{words}",
                    says=one["says"],
                    rests_on=one["rests_on"],
                    cases=(),
                    unchecked=one["why"],
                )
                for words, one in unchecked.items()
            ),
        ]
    return sections


def page_of(sections: Mapping[str, Sequence[Promise]], seen: Seen) -> str:
    """Return the text of docs/rules.md. Raises RulesError where `seen` has a promise that no case checks."""
    checked = {promise.name for section in sections.values() for promise in section if promise.cases}
    if strangers := [name for name in seen if name not in checked]:
        raise RulesError(f"docs/rules-seen.json records {', '.join(strangers)}, which no case checks: rename or remove")
    tables = [
        "\n".join(
            [
                f"\n## {section}\n",
                "| id | promise | rests on | seen on | case |",
                "|---|---|---|---|---|",
                *(_row(promise, seen.get(promise.name, {})) for promise in rows),
            ]
        )
        + "\n"
        for section, rows in sections.items()
        if rows
    ]
    return HEAD + "".join(tables)


def _row(promise: Promise, kernels: Mapping[str, str]) -> str:
    cells = (
        f"`{promise.name}`",
        promise.says,
        promise.rests_on,
        _seen_on(kernels),
        _links(promise.cases) if promise.cases else f"not checked: {promise.unchecked}",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _seen_on(kernels: Mapping[str, str]) -> str:
    """Return the kernels that kept a promise, and those that did not with the bugs that they have."""
    ordered = sorted(kernels, key=Release.parse)
    kept = ", ".join(name for name in ordered if kernels[name] == PASSED)
    shown = dict.fromkeys(kernels[name] for name in ordered if kernels[name] != PASSED)
    broken = "; ".join(f"not {', '.join(name for name in ordered if kernels[name] == bug)} ({bug})" for bug in shown)
    return "; ".join(filter(None, (kept, broken)))


def _links(cases: Sequence[str]) -> str:
    """Return links to the files of cases, each under the name of the test function."""
    return ", ".join(f"[{case.partition('::')[2]}](../{case.partition('::')[0]})" for case in cases)


def record(seen: Seen, kernels: Sequence[KernelOutcomes], cases: Cases) -> list[str]:
    """Enter into `seen` what kernels did with the cases; return what could not be entered.

    A promise is kept where all cases that ran passed; then the series is entered ("6.1"). Where some failed as the
    ledger expects, the release is entered with the bugs ("6.1.192": "K20"), in the place of an older one of its series.
    A promise with a case that failed or had no turn is left as it is, and named; one that was skipped is not tried.
    """
    left = []
    bugs_of = _bugs_of_cases()
    for kernel in kernels:
        release = kernel.release
        by_function: dict[str, list[str]] = {}
        for case, outcome in kernel.outcomes.items():
            by_function.setdefault(function_of(case), []).append(outcome)
        for name, found in cases.items():
            tried = {case.id: [one for one in by_function.get(case.id, ()) if one != "skipped"] for case in found}
            came_to = {outcome for each in tried.values() for outcome in each}
            if not came_to:
                continue
            if wrong := came_to - {PASSED, "xfailed"}:
                left.append(f"{name} on {release}, of which a case came to: {', '.join(sorted(wrong))}")
                continue
            shown = sorted(
                bug for case, each in tried.items() if "xfailed" in each for bug in bugs_of.get(case, ())
                if bugs()[bug].state(release) in {State.AFFECTED, State.UNKNOWN}
            )  # fmt: skip
            _enter(seen.setdefault(name, {}), release, shown)
    return left


def _enter(kernels: dict[str, str], release: Release, shown: Sequence[str]) -> None:
    series = f"{release.major}.{release.minor}"
    if not shown:
        kernels[series] = PASSED
        return
    for name in [name for name, what in kernels.items() if what != PASSED]:
        if Release.parse(name).series == release.series:
            del kernels[name]
    kernels[str(release)] = ", ".join(dict.fromkeys(shown))


def _bugs_of_cases() -> dict[str, set[str]]:
    """Return the bugs that the cases show, by the cases' ids."""
    found: dict[str, set[str]] = {}
    for bug, cases in marked("ledger").items():
        for case in cases:
            found.setdefault(case.id, set()).add(bug)
    return found


def read_seen(path: Path) -> Seen:
    """Return what is recorded. Raises ValueError and OSError."""
    seen: Seen = json.loads(path.read_text())
    return seen


def written(seen: Seen) -> str:
    """Return the text of docs/rules-seen.json: a line a promise, so that a change is a line of a diff."""
    lines = (
        f" {json.dumps(name)}: {json.dumps(dict(sorted(seen[name].items(), key=lambda item: Release.parse(item[0]))))}"
        for name in sorted(seen)
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"

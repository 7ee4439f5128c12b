# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write a run's results as one page: report.html beside results.json, which is all that it is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vm import results
from vm.outcomes import Outcome
from vm.picture import draw
from vm.stories import contents, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vm.results import CaseResult, RunResult

HTML = "report.html"

PICTURES = 8
"""Packets of a case that are drawn; the text has them all."""

_QUIET = {Outcome.PASSED, Outcome.SKIPPED, Outcome.XFAILED}


def write(run: RunResult, directory: Path) -> None:
    """Write report.html into `directory`, where results.json and the stories are."""
    results.write_text(directory / HTML, page(run, directory))


def page(run: RunResult, directory: Path) -> str:
    """Return the page; stories are read from `directory`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "slug": lambda outcome: str(outcome).replace(" ", "-"),
        "counts": _counts,
        "telling": lambda cases: [case for case in cases if _tells(case)],
        "untelling": lambda cases: [case for case in cases if not _tells(case)],
        "contents": lambda story: contents(directory / story),
        "ways": parse,
        "draw": draw,
    }
    return environment.get_template("report.html.j2").render(run=run, pictures=PICTURES)


def _counts(cases: Iterable[CaseResult]) -> list[tuple[Outcome, int]]:
    return Counter(case.outcome for case in cases).most_common()


def _tells(case: CaseResult) -> bool:
    return case.outcome not in _QUIET or bool(case.story)

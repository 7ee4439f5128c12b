# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write a run's results as one page: report.html beside results.json, which is all that it is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.interface.sentences import Code, SocketName, heading, sentence, topic
from vm.report import results, stories
from vm.report.outcomes import CaseOutcome
from vm.report.picture import draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.interface.steps import Step
    from harness.interface.story import Story
    from vm.report.results import CaseResult, RunResult

HTML = "report.html"

PICTURES = 8
"""Packets of a case that are drawn; the steps of all are listed."""

_QUIET = {CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED}


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
        "with_report": lambda cases: [case for case in cases if _has_report(case)],
        "without_report": lambda cases: [case for case in cases if not _has_report(case)],
        "text": lambda path: stories.read_text(directory / path),
        "story": lambda path: _story(directory / path),
        "heading": heading,
        "topic": topic,
        "sentence": sentence_html,
        "draw": draw,
    }
    return environment.get_template("report.html.j2").render(run=run, pictures=PICTURES)


def sentence_html(step: Step) -> Markup:
    """Return the sentence for a step, with the names of sockets and of the kernel's functions set apart."""
    return Markup("").join(map(_part, sentence(step)))


def _part(part: str) -> Markup:
    match part:
        case SocketName():
            return Markup("<b>{}</b>").format(str(part))
        case Code():
            return Markup("<code>{}</code>").format(str(part))
        case _:
            return escape(part)


def _story(path: Path) -> Story | None:
    """Return the story, None where its data are gone or of another version: the page then has the text alone."""
    try:
        return stories.read(path)
    except ValueError:
        return None


def _counts(cases: Iterable[CaseResult]) -> list[tuple[CaseOutcome, int]]:
    return Counter(case.outcome for case in cases).most_common()


def _has_report(case: CaseResult) -> bool:
    return case.outcome not in _QUIET or bool(case.story)

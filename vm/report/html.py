# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write a run's results as one page: report.html beside results.json, which is all that it is made of.

vm/report/page/ has the template, its style and its script. Without JavaScript the page has the findings, the matrix by
topic, and every failure.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.interface.sentences import heading, topic
from vm.report import charts, page_data, results, stories
from vm.report.failure import Failure, sentence_html
from vm.report.findings import Finding, findings
from vm.report.functions import function_of
from vm.report.outcomes import AS_EXPECTED
from vm.report.picture import draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.interface.story import Story
    from vm.report.history import History
    from vm.report.outcomes import CaseOutcome
    from vm.report.results import CaseResult, KernelResult, RunResult

HTML = "report.html"

PICTURES = 8
"""Packets of a case that are drawn; the steps of all are listed."""

_BUDGET = 2_500_000
"""Characters of failures in full; the ones after that are named, with their reasons."""


def write(run: RunResult, directory: Path, *, history: History | None = None) -> None:
    """Write report.html into `directory`, where results.json and the stories are."""
    results.write_text(directory / HTML, page(run, directory, history=history))


def page(run: RunResult, directory: Path, *, history: History | None = None) -> str:
    """Return the page; stories are read from `directory`. `history` is that of earlier runs."""
    environment = _environment(directory)
    found = findings(run, history)
    groups, anchors = _failures(environment, run, found, directory)
    topics = page_data.cases_of(run)
    template = environment.get_template("report.html.j2")
    return template.render(
        run=run,
        findings=found,
        groups=groups,
        topics=list(page_data.rows(run, topics)),
        total=sum(len(kernel.cases) for kernel in run.kernels),
        data=page_data.data_of(run, topics, anchors=anchors),
        charts=charts.charts(run),
        style=Markup(_read("report.css")),
        script=Markup(_read("report.js")),
    )


def _failures(
    environment: Environment, run: RunResult, found: list[Finding], directory: Path
) -> tuple[list[tuple[Finding, list[Markup], list[tuple[str, str, list[str]]]]], dict[tuple[str, str], str]]:
    """Return each finding with its cases in full and, where they are too many, those that are only named.

    Then where the page has the cases in full, by kernel and case.
    """
    template = environment.get_template("failure.html.j2")
    kernels = {kernel.name: kernel for kernel in run.kernels}
    groups, anchors, spent = [], {}, 0
    for number, finding in enumerate([*found, *_told(run)], start=1):
        blocks: list[Markup] = []
        named: dict[tuple[str, str], list[str]] = {}
        for name, cases in finding.cases.items():
            for case in cases:
                if spent > _BUDGET:
                    named.setdefault((case.id, case.reason), []).append(name)
                    continue
                anchor = f"f{number}-{len(blocks) + 1}"
                failure = Failure(case=case, kernel=kernels[name], directory=directory)
                text = run.functions.get(function_of(case.id))
                block = template.render(failure=failure, anchor=anchor, function=text, first=not blocks)
                spent += len(block)
                blocks.append(Markup(block))
                anchors[name, case.id] = anchor
        groups.append((finding, blocks, [(case, reason, names) for (case, reason), names in named.items()]))
    return groups, anchors


def _told(run: RunResult) -> Iterable[Finding]:
    """Yield the cases that are as expected and have a story: an expected failure, or any with --witness."""
    told: dict[str, list[CaseResult]] = {}
    for kernel in run.kernels:
        for case in kernel.cases:
            if case.outcome in AS_EXPECTED and case.story:
                told.setdefault(kernel.name, []).append(case)
    if told:
        yield Finding(what="as expected, with a story", outcome="", reason="", cases=told)


def _environment(directory: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"pictures": PICTURES}
    environment.filters |= {
        "slug": page_data.slug,
        "word": lambda outcome: page_data.WORDS.get(outcome, str(outcome)),
        "counts": _counts,
        "text": lambda path: stories.read_text(directory / path),
        "story": lambda path: _story(directory / path),
        "heading": heading,
        "topic": topic,
        "sentence": sentence_html,
        "draw": draw,
        "colour": charts.colour,
        "seconds": lambda value: f"{value:.1f} s" if value is not None else "-",
        "accel": _accel,
    }
    return environment


def _read(name: str) -> str:
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")


def _story(path: Path) -> Story | None:
    """Return the story, None where its data are gone or of another version: the page then has the text alone."""
    try:
        return stories.read(path)
    except ValueError:
        return None


def _counts(cases: Iterable[CaseResult]) -> list[tuple[CaseOutcome, int]]:
    return Counter(case.outcome for case in cases).most_common()


def _accel(kernel: KernelResult) -> str:
    how: dict[str, Any] = {"kvm": "under KVM", "tcg": "emulated", "native": "on this machine"}
    said = str(how.get(kernel.accel, kernel.accel))
    if kernel.memory:
        said += f", {kernel.memory} MiB, {kernel.cpus} CPUs"
    return said

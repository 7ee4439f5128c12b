# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pytest plugin of each run: take the cases of the plan in its order, and write down what came of them.

The plan is a file of JSON that MUTANTS_PLAN names: `cases` by their ids (None: all), `variants` whose programs are
compiled from the mutated sources, `objects` of the others by name (None: nothing is mutated), `answer` to write to, and
`reach`: whether to write down what each case runs instead. The plugin of a warm session is another one (`warm`).
"""

from __future__ import annotations

import json
import os
import sys
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    import coverage


def pytest_configure(config: pytest.Config) -> None:
    """Read the plan."""
    plan = json.loads(Path(os.environ["MUTANTS_PLAN"]).read_text())
    _compile_by(plan)
    if plan["warm"]:
        return
    config.pluginmanager.register(_Chosen(plan))
    config.pluginmanager.register(_Reach(plan) if plan["reach"] else Told(plan))


def _compile_by(plan: dict[str, Any]) -> None:
    """Have the programs compiled that the cases load, and the others taken as they are."""
    if plan["objects"] is None:
        return
    from harness.loader import compiler as of_the_tree

    compiler: Any = of_the_tree
    objects = {name: Path(path) for name, path in plan["objects"].items()}
    compiler.compile_variants = lambda: objects | compile_variants(plan["variants"])


def compile_variants(names: list[str]) -> dict[str, Path]:
    """Return the objects of some variants, compiled here from the tree; what only warns is no error."""
    from harness.loader import compiler as of_the_tree

    compiler: Any = of_the_tree
    compiler.FLAGS = tuple(flag for flag in compiler.FLAGS if flag != "-Werror")
    variants = [variant for variant in compiler.VARIANTS.values() if variant.name in names and variant.file]
    return {
        variant.name: compiler.compile_program(compiler.SOURCES / variant.file, defines=variant.defines)
        for variant in variants
    }


class _Chosen:
    def __init__(self, plan: dict[str, Any]) -> None:
        self._wanted = None if plan["cases"] is None else {name: place for place, name in enumerate(plan["cases"])}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave the cases of the plan, in its order."""
        wanted = self._wanted
        if wanted is not None:
            items[:] = sorted((one for one in items if one.nodeid in wanted), key=lambda one: wanted[one.nodeid])


class Told:
    """What came of the cases: how many passed, and the first that did not; it has to fail twice."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._answer = Path(plan["answer"])
        self._said: dict[str, Any] = {"case": "", "why": "", "passed": 0, "race": ""}

    @property
    def failed(self) -> bool:
        """Return whether a case has failed twice."""
        return bool(self._said["why"])

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a case, and one that failed again: failures of one run alone are written down as a race."""
        from harness.plugins.second_run import run, run_again

        self._write(case=item.nodeid)  # what hangs, or dies, does so in it
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = run(item, nextitem)
        if why := _failure(reports):
            if _failure(again := run_again(item, nextitem)):
                self._write(case=item.nodeid, why=why)
            else:
                reports = again
                self._write(race=f"{item.nodeid} {why}")
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if not self.failed:
            self._write(case="", passed=self._said["passed"] + 1)
        return True

    def _write(self, **what: Any) -> None:
        self._said |= what
        self._answer.write_text(json.dumps(self._said))


def _failure(reports: list[pytest.TestReport]) -> str:
    """Return what the first failure says, "" without one."""
    for report in reports:
        if report.failed:
            words = report.longreprtext.strip().splitlines() or ["failed"]
            errors = [line[2:] for line in words if line.startswith("E ")]
            return f"{report.when}: {' '.join((errors or words[-1:])[0].split())}"[:200]
    return ""


class _Reach:
    """Which lines of harness/ each case runs, and which programs it loads."""

    def __init__(self, plan: dict[str, Any]) -> None:
        import coverage

        self._answer = Path(plan["answer"])
        self._tree = Path.cwd()
        self._coverage: coverage.Coverage = coverage.Coverage(
            data_file=None, source=[str(self._tree / "harness/model")], config_file=False, messages=False
        )
        # Tests that ask for names alone run no line.
        self._coverage.set_option("run:disable_warnings", ["no-data-collected"])
        self._cases: dict[str, dict[str, Any]] = {}
        self._now = ""
        self._coverage.start()

    def pytest_collection_finish(self) -> None:
        """Note from now on which programs are loaded."""
        from harness.loader.program import Program

        initialise = Program.__init__

        def noting(program: Program, variant: Any, *args: Any, **kwargs: Any) -> None:
            if self._now:
                self._cases[self._now]["variants"].add(variant.name)
            initialise(program, variant, *args, **kwargs)

        Program.__init__ = noting  # type: ignore[method-assign, assignment]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Give what a case runs its name."""
        # What a case has from a cache it would not be seen to compute.
        for module in [module for name, module in sys.modules.items() if name.startswith("harness.model.")]:
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()
        used = set()
        if isinstance(item, pytest.Function) and "kept_group" in item.fixturenames:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            used.add(params.get("variant", "reference"))
        self._now = item.nodeid
        self._cases[item.nodeid] = {"outcome": "passed", "seconds": 0.0, "variants": used}
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")
            self._now = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome."""
        case = self._cases[report.nodeid]
        case["seconds"] += report.duration
        if report.outcome != "passed" and case["outcome"] == "passed":
            case["outcome"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for file in data.measured_files():
            name = str(Path(file).relative_to(self._tree))
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in filter(None, contexts):
                    lines.setdefault(context, {}).setdefault(name, []).append(line)
        cases = {
            name: {**case, "seconds": round(case["seconds"], 3), "variants": sorted(case["variants"])}
            for name, case in self._cases.items()
        }
        self._answer.write_text(json.dumps({"cases": cases, "lines": lines}))

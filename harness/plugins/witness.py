# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Trace cases in the kernel, all of them, or a failed one in a second run, or none; the story joins the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.interface.keys import STORY
from harness.plugins import second_run

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from harness.interface.story import Story
    from harness.trace.events import Event, Reading
    from harness.trace.evidence import Evidence
    from harness.trace.witness import Loader, Witness
    from harness.wire.veth import Wire

NO_WITNESS = "no_witness"
"""Property of a report: why there is no witness, and how to get one. One line."""

_EVIDENCE = "witnessed"
"""Property of a report on its way from where the case ran: what its story is made from. See `_story_of`."""

_SECOND_RUN, _UNAVAILABLE = "second_run", "unavailable"
"""Keys in it, beside those of `Evidence.pack`: of a case that ran again, and of one that could not be traced."""

_WIRE = "wire"
"""The fixture behind all that cases send."""

_PLUGIN = "reuseport-witness"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --witness."""
    parser.getgroup("reuseport").addoption(
        "--witness",
        choices=("failed", "all", "none"),
        default="failed",
        help="which cases bcc traces in the kernel: a case that failed, which is run once more for it and keeps its "
        "first outcome (default); all cases as they run; or none",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register what traces, where cases run, and what makes the stories, where reports are read."""
    if not hasattr(config, "workerinput"):
        # A worker passes its reports on as they are: a guest has no time for stories.
        config.pluginmanager.register(StoryMaker())
    if hasattr(config, "workerinput") or not getattr(config.option, "tx", None):
        config.pluginmanager.register(Tracing(config.option.witness), _PLUGIN)


class StoryMaker:
    """The plugin of the process that reads the reports."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Make the story before anyone looks at the report."""
        add_story(report)
        return (yield)


def add_story(report: pytest.TestReport) -> None:
    """Replace the evidence among a report's properties by its story, and show the text as a section."""
    for place, (name, value) in enumerate(report.user_properties):
        if name == _EVIDENCE and isinstance(value, dict):
            story = _story_of(value)
            report.user_properties[place] = (STORY, story)
            if report.when == "call":
                report.sections.append(("witness", str(story)))


def _story_of(packed: Mapping[str, Any]) -> Story:
    from harness.interface.story import SecondRun, Story  # noqa: PLC0415  # not in a guest
    from harness.trace.evidence import Evidence  # noqa: PLC0415
    from harness.trace.story import story_of  # noqa: PLC0415

    if _UNAVAILABLE in packed:
        return Story(unavailable=packed[_UNAVAILABLE])
    second_run = SecondRun(**packed[_SECOND_RUN]) if _SECOND_RUN in packed else None
    return story_of(Evidence.unpack(packed), second_run=second_run)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say, once for each reason, why there was no witness where one was wanted."""
    kinds = ("passed", "failed", "error")
    reports = [
        report
        for kind in kinds
        for report in terminalreporter.stats.get(kind, ())
        if isinstance(report, pytest.TestReport)  # a file that cannot be imported is an error too
    ]
    reasons = {str(value) for report in reports for name, value in report.user_properties if name == NO_WITNESS}
    for reason in sorted(reasons):
        terminalreporter.write_line(f"no witness: {reason}", yellow=True)


class Tracing:
    """The plugin of a process that runs cases; it has one witness, made when it is first wanted."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._loader: Loader | None = None
        self._second_run = False
        self._reason_given = False

    def start(self) -> Loader:
        """Begin to load the tracer, if that was not begun before."""
        if self._loader is None:
            from harness.trace.witness import Loader  # noqa: PLC0415  # a run without a witness does not pay for it

            self._loader = Loader()
        return self._loader

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Begin to load while cases are collected and the first group is made, where every case is traced."""
        if self.mode == "all" and not session.config.option.collectonly:
            self.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a case that fails once more under trace; the reports stay those of the first run."""
        if self.mode != "failed" or not _sends_packets(item) or not second_run.is_possible(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = second_run.run(item, nextitem)
        if failed := next((report for report in reports if report.when == "call" and report.failed), None):
            self._run_again(item, nextitem, failed, reports[-1])
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say, once, why a failed case is not run again where it cannot be."""
        report = yield
        wanted = self.mode == "failed" and report.when == "call" and report.failed and _sends_packets(item)
        if wanted and not self._reason_given and not second_run.is_possible(item):
            report.user_properties.append((NO_WITNESS, second_run.UNAVAILABLE))
            self._reason_given = True
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Trace a case while it runs, without the work of its fixtures."""
        if not (self._second_run or (self.mode == "all" and _sends_packets(item))):
            return (yield)
        trace = self._trace(item)
        if trace is None:
            return (yield)
        try:
            return (yield)
        finally:
            assert isinstance(item, pytest.Function), "it has a wire"
            wire = cast("Wire", item.funcargs[_WIRE])
            item.user_properties.append((_EVIDENCE, trace.finish(wire.names).pack()))

    def _trace(self, item: pytest.Item) -> Trace | None:
        """Begin to trace a case, or return the trace that its fixture has begun; None without a witness."""
        given = item.funcargs.get("trace") if isinstance(item, pytest.Function) else None
        if isinstance(given, Trace):
            return given
        from harness.trace.tracer import TracingError  # noqa: PLC0415

        try:
            return Trace(self.start().wait())
        except TracingError as error:
            if not self._reason_given:
                item.user_properties.append((NO_WITNESS, str(error)))
                self._reason_given = True
            return None

    def _run_again(
        self, item: pytest.Item, nextitem: pytest.Item | None, failed: pytest.TestReport, last: pytest.TestReport
    ) -> None:
        from harness.trace.tracer import TracingError  # noqa: PLC0415

        try:
            self.start().wait()
        except TracingError as error:
            failed.user_properties.append((NO_WITNESS, str(error)))
            for report in _both(failed, last):
                report.user_properties.append((_EVIDENCE, {_UNAVAILABLE: str(error)}))
            return
        first_properties = list(item.user_properties)
        item.user_properties.clear()
        self._second_run = True
        try:
            reports = second_run.run_again(item, nextitem)
        finally:
            self._second_run = False
            found = [value for name, value in item.user_properties if name == _EVIDENCE]
            item.user_properties[:] = first_properties
        for value in found:
            assert isinstance(value, dict), "Evidence.pack() made it"
            for report in _both(failed, last):
                report.user_properties.append((_EVIDENCE, {**value, _SECOND_RUN: _outcome_of(reports)}))


class Trace:
    """The events of one case's packets, from the moment it is made."""

    def __init__(self, witness: Witness) -> None:
        from harness.trace.tracer import netns_inode  # noqa: PLC0415

        self._witness = witness
        self._readings: list[Reading] = []
        witness.listen(netns_inode())

    def new_events(self) -> tuple[Event, ...]:
        """Return what happened since the last call."""
        from harness.trace.events import in_order  # noqa: PLC0415

        self._readings.append(self._witness.read())
        return in_order(self._readings[-1].records)

    def finish(self, names: Mapping[int, str]) -> Evidence:
        """Stop and return all that was recorded; `names` is what the case calls its sockets, by cookie."""
        self._witness.listen(0)
        # Nothing is recorded after it: the next trace begins with what is new.
        self._readings.append(self._witness.read())
        return self._witness.evidence(self._readings, names)


def _sends_packets(item: pytest.Item) -> bool:
    """Tell whether an item can be traced: what has no wire sends nothing through the kernel."""
    return isinstance(item, pytest.Function) and _WIRE in item.fixturenames


def _both(failed: pytest.TestReport, last: pytest.TestReport) -> Iterable[pytest.TestReport]:
    """Return the reports that get the story: the one that failed, and the last one, which junit.xml is made from."""
    return {id(report): report for report in (failed, last)}.values()


def _outcome_of(reports: Sequence[pytest.TestReport]) -> dict[str, str | None]:
    """Return what became of a second run, as the arguments of `SecondRun`."""
    failed = next((report for report in reports if report.failed), None)
    if failed is None:
        return {"failed_in": None, "message": ""}
    crash = getattr(failed.longrepr, "reprcrash", None)
    message = str(crash.message).splitlines()[0] if crash else "see the report"
    return {"failed_in": failed.when, "message": message}


@pytest.fixture
def trace(wire: Wire, pytestconfig: pytest.Config) -> Iterator[Trace]:
    """Return what the witness records of the case; without a witness, skip the case and say how to get one."""
    from harness.trace.tracer import TracingError  # noqa: PLC0415

    tracing = pytestconfig.pluginmanager.get_plugin(_PLUGIN)
    assert isinstance(tracing, Tracing), "the plugin is registered where cases run"
    if tracing.mode == "none":
        pytest.skip("--witness none")
    try:
        made = Trace(tracing.start().wait())
    except TracingError as error:
        pytest.skip(f"no witness: {error}")
    yield made
    made.finish(wire.names)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Let the witness see cases: all of them, or those that failed a second time, or none; its story joins the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from harness.interface.keys import STORY

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from harness.trace.events import Event, Reading
    from harness.trace.story import Evidence
    from harness.trace.witness import Loader, Witness

NO_WITNESS = "no_witness"
"""The name of the property that says in one line why there is no witness, and how to get one."""

_EVIDENCE = "witnessed"
"""The name of the property in which a report brings the story's material from where the case ran."""

_WIRE = "wire"
"""The fixture behind all that cases send."""

_PLUGIN = "reuseport-witness"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --witness."""
    parser.getgroup("reuseport").addoption(
        "--witness",
        choices=("failed", "all", "none"),
        default="failed",
        help="which cases bcc traces through the kernel: a failed case is run once more under trace and keeps its "
        "first outcome (default), all cases as they run, or none",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register what traces, where cases run; and what tells of it, where reports are read."""
    if not hasattr(config, "workerinput"):
        # A worker passes its reports on as they are: a guest has no time for stories.
        config.pluginmanager.register(Telling())
    if hasattr(config, "workerinput") or not getattr(config.option, "tx", None):
        config.pluginmanager.register(Tracing(config.option.witness), _PLUGIN)


class Telling:
    """Tell stories where reports come in."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Tell the story before anyone looks at the report."""
        tell_story(report)
        return (yield)


def tell_story(report: pytest.TestReport) -> None:
    """Replace the material of a story among a report's properties by the story, and show it as a section."""
    from harness.trace.story import Evidence  # noqa: PLC0415

    for place, (name, value) in enumerate(report.user_properties):
        if name == _EVIDENCE and isinstance(value, dict):
            head = f"{value['head']}\n" if "head" in value else ""
            text = head + str(Evidence.unpack(value).story())
            report.user_properties[place] = (STORY, text)
            if report.when == "call":
                report.sections.append(("witness", text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say, once for each reason, why there was no witness where one was wanted."""
    reports = [report for kind in ("passed", "failed", "error") for report in terminalreporter.stats.get(kind, ())]
    reasons = {value for report in reports for name, value in report.user_properties if name == NO_WITNESS}
    for reason in sorted(reasons):
        terminalreporter.write_line(f"no witness: {reason}", yellow=True)


class Tracing:
    """Hold the one witness of this process, made when it is first wanted, and trace cases with it."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._loader: Loader | None = None
        self._again = False
        self._told = False

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
        if self.mode != "failed" or not _sends_packets(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if failed := next((report for report in reports if report.when == "call" and report.failed), None):
            self._trace_again(item, nextitem, failed, reports[-1])
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Trace a case while it runs, its fixtures' work left out."""
        if not (self._again or (self.mode == "all" and _sends_packets(item))):
            return (yield)
        watch = self._watch(item)
        if watch is None:
            return (yield)
        try:
            return (yield)
        finally:
            item.user_properties.append((_EVIDENCE, watch.finish().pack()))

    def _watch(self, item: pytest.Item) -> Watch | None:
        given = item.funcargs.get("watch") if isinstance(item, pytest.Function) else None
        if isinstance(given, Watch):
            return given
        from harness.trace.tracer import NoWitnessError  # noqa: PLC0415

        try:
            return Watch(self.start().wait())
        except NoWitnessError as error:
            if not self._told:
                item.user_properties.append((NO_WITNESS, str(error)))
                self._told = True
            return None

    def _trace_again(
        self, item: pytest.Item, nextitem: pytest.Item | None, failed: pytest.TestReport, last: pytest.TestReport
    ) -> None:
        from harness.trace.tracer import NoWitnessError  # noqa: PLC0415

        try:
            self.start().wait()
        except NoWitnessError as error:
            text = f"there is no witness: {error}"
            failed.sections.append(("witness", text))
            failed.user_properties.append((NO_WITNESS, str(error)))
            for report in _both(failed, last):
                report.user_properties.append((STORY, text))
            return
        first_properties = list(item.user_properties)
        item.user_properties.clear()
        self._again = True
        try:
            item._initrequest()  # type: ignore[attr-defined]  # what a fixture gave the first run is spent
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        finally:
            self._again = False
            told = [value for name, value in item.user_properties if name == _EVIDENCE]
            item.user_properties[:] = first_properties
        for value in told:
            assert isinstance(value, dict), "Evidence.pack() made it"
            for report in _both(failed, last):
                report.user_properties.append((_EVIDENCE, {**value, "head": _comparison(reports)}))


class Watch:
    """See what one case's packets do, from the moment it is made."""

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

    def finish(self) -> Evidence:
        """Stop and return all that was seen."""
        from harness.group.socket_names import known  # noqa: PLC0415

        self._witness.listen(0)
        # Nothing comes after it: the next watch begins with what is new.
        self._readings.append(self._witness.read())
        return self._witness.evidence(self._readings, known())


def _sends_packets(item: pytest.Item) -> bool:
    """Tell whether there is anything to see of an item: what has no wire sends nothing through the kernel."""
    return isinstance(item, pytest.Function) and _WIRE in item.fixturenames


def _both(failed: pytest.TestReport, last: pytest.TestReport) -> Iterable[pytest.TestReport]:
    """Return the reports that take what is told of a case: the one that failed, and the last, which junit.xml reads."""
    return {id(report): report for report in (failed, last)}.values()


def _comparison(reports: Sequence[pytest.TestReport]) -> str:
    failed = next((report for report in reports if report.failed), None)
    if failed is None:
        return "run again under trace, the case passed: its failure is not of every time"
    if failed.when != "call":
        return f"run again under trace, the case failed in its {failed.when}: {_last_line(failed)}"
    return f"run again under trace, the case failed again: {_last_line(failed)}"


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message).splitlines()[0] if crash else "see the report"


@pytest.fixture
def watch(pytestconfig: pytest.Config) -> Iterator[Watch]:
    """Return what the witness sees of the case; skip, saying how to get one, where there is none."""
    from harness.trace.tracer import NoWitnessError  # noqa: PLC0415

    tracing = pytestconfig.pluginmanager.get_plugin(_PLUGIN)
    assert isinstance(tracing, Tracing), "cases run where it is registered"
    if tracing.mode == "none":
        pytest.skip("--witness none")
    try:
        made = Watch(tracing.start().wait())
    except NoWitnessError as error:
        pytest.skip(f"no witness: {error}")
    yield made
    made.finish()

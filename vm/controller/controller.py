# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the cases on several kernels at once: what the plugin does in the process that the user started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import pytest

import vm.controller.worker
from harness.interface.keys import OBJECTS
from vm.base.children import scratch_directory
from vm.base.fingerprint import HOME, fingerprint
from vm.base.lifeline import lifeline
from vm.controller.admission import Slots
from vm.controller.board import Board
from vm.controller.protocol import Booted, End, Ending, Order, Progress, Say, SlotWanted, Told, read_status
from vm.controller.recorder import Recorder
from vm.controller.scheduling import KernelScheduling
from vm.guest import bytecode
from vm.remote import transfer
from vm.remote.connections import Fleet
from vm.report import console, publishing, stories
from vm.report.outcomes import Outcome, verdict_of
from vm.report.results import SplatResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from vm.boot.acceleration import Acceleration
    from vm.boot.options import GuestOptions
    from vm.remote.hosts import Place

KERNEL_VARIABLE = "REUSEPORT_KERNEL"
"""Names the kernel in a worker's gateway specification, which a replaced worker inherits, and in its environment."""

LOST_VMS = 4
"""VMs that a kernel may lose before what is left of its cases is given up; --max-worker-restart changes it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold what the user asked for."""

    words: list[str]
    kernels: list[str]
    timeout: float
    acceleration: Acceleration | None
    options: GuestOptions
    mirror: str | None
    vms: int | None
    lost_vms: int
    places: dict[str, Place | None]  # where each kernel runs; None: on this machine
    parts: list[str]  # files and directories of the project that have to be the same there


class KernelReport(pytest.TestReport):
    """An error that is no case's: of a kernel that did not boot, was lost, or complained."""


@dataclass
class _Progress:
    """Hold what is known of one kernel while it runs."""

    phase: str = "waiting"
    total: int = 0
    started: float | None = None  # of the first boot
    ending: Ending | None = None  # of the VM that ended last
    lost: int = 0
    trouble: list[str] = field(default_factory=list)  # what makes the kernel "infrastructure"
    status: Any = None  # the channel to its relay
    unwritten: str = ""  # why its console is not whole


class Controller:
    """The plugin of a run in VMs."""

    def __init__(self, config: pytest.Config, plan: Plan, *, directory: Path, started: datetime, file: TextIO) -> None:
        self._config = config
        self._plan = plan
        self._directory = directory
        self._publication = publishing.Publication(config, started=started)
        self._recorder = Recorder(plan.kernels)
        self._progress = {name: _Progress() for name in plan.kernels}
        self._slots = Slots(plan.vms)
        self._board = Board(plan.kernels, file=file)
        self._scheduling = KernelScheduling(plan.kernels, name_of=kernel_of)
        self._fleet = Fleet(plan.places)
        self._lock = threading.Lock()
        self._collecting: subprocess.Popen[bytes] | None = None
        self._scratch = contextlib.ExitStack()
        self._bytecode: Path | None = None
        self._fingerprint = fingerprint()

    # Bringing workers up.

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Take over from xdist's own progress lines, before it starts its workers."""
        for name in self._plan.kernels:
            try:
                (self._directory / name).mkdir(exist_ok=True)
            except OSError as error:
                pytest.exit(publishing.explain(self._directory, error), returncode=publishing.UNPUBLISHED)
            self._recorder.kernels[name].console = f"{name}/console.log"
            self._recorder.kernels[name].machine = self._fleet.word(name)
            self._recorder.kernels[name].append = list(self._plan.options.append)
            self._recorder.kernels[name].memory = self._plan.options.memory
            self._recorder.kernels[name].cpus = self._plan.options.cpus
        distributed = self._config.pluginmanager.getplugin("dsession")
        distributed.terminal = None
        self._config.pluginmanager.unregister(name="terminaldistreporter")
        self._board.start()
        self._reach_machines()
        self._fleet.collect(_collecting(self._config), root=HOME)
        if not all(self._fleet.word(name) for name in self._plan.kernels):
            # Without room for it guests import from files, which takes them longer.
            with contextlib.suppress(OSError):
                self._bytecode = self._scratch.enter_context(scratch_directory()) / "bytecode"
                self._collecting = collect_here(self._config, self._bytecode)

    def _reach_machines(self) -> None:
        for name in self._plan.kernels:
            if self._fleet.word(name):
                self._board.show(name, f"connecting to {self._fleet.word(name)}")
        plugins = {name.partition(".")[0] for name in plugins_of(self._config)}
        self._fleet.connect(
            root=HOME,
            parts=self._plan.parts,
            modules=sorted({"execnet", "pytest", "qemu", "virtme", "xdist", *plugins}),
            tell=self._board.tell,
        )
        self._config.option.tx = [self._fleet.specification(name, local_worker(name)) for name in self._plan.kernels]

    def pytest_xdist_setupnodes(self) -> None:
        """Show xdist's group of gateways the ways to other machines, before it starts workers there."""
        self._fleet.join(self._gateways)

    @property
    def _gateways(self) -> Any:
        return self._config.pluginmanager.getplugin("dsession").nodemanager.group

    def pytest_xdist_getremotemodule(self) -> Any:
        """Have workers be relays to VMs."""
        return vm.controller.worker

    @pytest.hookimpl(trylast=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker which kernel is its own, and have the files that others gave it travel with it."""
        name = kernel_of(node)
        progress = self._progress[name]
        status = node.gateway.newchannel()
        status.setcallback(lambda message: self._hear(name, message))
        if progress.ending is not None and not self._is_given_up(name):
            self._append_to_console(name, f"\n{console.NEW_VM}{progress.ending.why}\n".encode())
        progress.status, progress.ending = status, None
        nothing_left = self._scheduling.collected(name) and not self._scheduling.left(name)
        connection = self._fleet.connection(name) if node.gateway.spec.via else None
        if connection is not None:
            node.workerinput[OBJECTS] = transfer.pack(node.workerinput.get(OBJECTS, {}))
        order = Order(
            kernel=name,
            words=self._plan.words,
            directory=connection.directory if connection is not None else None,
            home=str(HOME),
            fingerprint=self._fingerprint,
            timeout=self._plan.timeout,
            acceleration=self._acceleration_of(name),
            options=self._plan.options,
            mirror=self._plan.mirror,
            plugins=plugins_of(self._config),
            bytecode=str(self._bytecode) if self._bytecode is not None else None,
            idle=nothing_left or self._is_given_up(name),
            refusal=self._fleet.refusal(name),
        )
        node.workerinput["kernel"] = name
        node.workerinput["vm"] = order.to_message()
        node.workerinput["status"] = status

    def _acceleration_of(self, name: str) -> Acceleration | None:
        """Return how a kernel has to be run: as the user wants it, or as its first VM showed that it can be."""
        emulated = self._recorder.kernels[name].accel == "tcg"
        return self._plan.acceleration or ("tcg" if emulated else None)

    def pytest_xdist_make_scheduler(self) -> KernelScheduling:
        """Give each kernel its own cases."""
        return self._scheduling

    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Take note of how many cases a kernel has."""
        progress = self._progress[kernel_of(node)]
        progress.total = max(progress.total, len(ids))
        if ids:
            self._count(kernel_of(node))

    def pytest_testnodeready(self, node: Any) -> None:
        """Have the head of a failure name the kernel, not the worker."""
        result = self._recorder.kernels[kernel_of(node)]
        node.workerinfo["id"] = f"{result.name}: Linux {result.release}" if result.release else result.name

    # What relays say; in threads of execnet.

    def _hear(self, name: str, message: Any) -> None:
        status = read_status(message)
        progress, result = self._progress[name], self._recorder.kernels[name]
        match status:
            case bytes():
                self._append_to_console(name, status)
            case Progress():
                self._board.show(name, f"{status.phase} {status.detail}".strip() + self._where(name))
            case Told():
                self._board.tell(f"{name}: {status.line}{self._where(name)}")
            case SlotWanted():
                self._slots.want(name, host=status.host, capacity=status.capacity, go=lambda: self._go(name))
            case Booted():
                result.vms += 1
                if result.vms == 1:
                    result.release, result.version = status.release, status.version
                    result.cmdline, result.accel = status.cmdline, status.acceleration
                    result.boot_seconds, result.notes = status.seconds, list(status.notes)
                line = f"collecting, booted Linux {status.release} in {status.seconds:.0f} s"
                self._board.show(name, line + self._where(name))
            case Ending():
                progress.ending = status
                self._slots.release(name)

    def _where(self, name: str) -> str:
        word = self._fleet.word(name)
        return f" (on {word})" if word else ""

    def _go(self, name: str) -> None:
        progress = self._progress[name]
        if progress.started is None:
            progress.started = time.monotonic()
        with contextlib.suppress(OSError):
            progress.status.send(str(Say.GO))

    # What cases come to.

    @pytest.hookimpl(tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Say what took a case's VM down, with the console's last words."""
        name = kernel_of(report.node)
        text = self._read_console(name)
        report.taken_as, what = self._cause_of_death(name, text)
        report.location = (report.location[0], None, crashitem.partition("::")[2] or crashitem)
        report.longrepr = f"{what} (the VM went down with the case)"
        report.sections.append((f"console of {name}", console.tail(text)))

    def _cause_of_death(self, name: str, text: str) -> tuple[Outcome, str]:
        ending = self._progress[name].ending
        if ending is None and self._fleet.is_cut_off(name):
            return Outcome.NOT_RUN, self._progress[name].trouble[-1]
        if ending is not None and ending.how is End.HUNG:
            return Outcome.HUNG, ending.why
        if panic := console.last_panic(text):
            return (Outcome.HUNG if panic.is_hang else Outcome.FAILED), f"Kernel panic - {panic.reason}"
        if ending is not None and ending.how is End.WORKER_DIED:
            return Outcome.FAILED, f"the test process died in the guest: {ending.why}"
        return Outcome.LOST, ending.why if ending is not None else "its relay on the host died"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case's report, and name its kernel where the terminal shows it."""
        if isinstance(report, KernelReport):
            return
        name = kernel_of(report.node)
        case = self._recorder.add(name, report, taken_as=getattr(report, "taken_as", None))
        with contextlib.suppress(OSError):  # results cannot be written either, which is said once
            story = stories.keep(report.user_properties, case.id, kernel=name, directory=self._directory)
            case.story = story or case.story
        path, line, domain = report.location
        report.location = (path, line, f"{domain} on {name}")
        if report.failed:
            self._board.tell(f"{name}: FAILED {case.id} - {case.reason}")
        if report.when != "setup":
            self._count(name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> tuple[str, str, str] | None:
        """Leave pytest's dots out where the board shows how each kernel is getting on."""
        if config.option.verbose > 0 or self._publication.run is not None or isinstance(report, pytest.CollectReport):
            return None  # at the end pytest asks again, for the word in its short summary
        outcome = report.outcome
        if report.when in ("collect", "setup", "teardown"):
            outcome = "error" if report.failed else "skipped" if report.skipped else ""
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed" if report.passed else outcome
        return outcome, "", ""

    def _count(self, name: str) -> None:
        failed = self._recorder.failed[name]
        line = f"running {len(self._recorder.kernels[name].cases)}/{self._progress[name].total}"
        line += f", failed {failed}" if failed else ""
        self._board.show(name, line, counting=True)

    # How VMs end.

    @pytest.hookimpl(tryfirst=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Draw the conclusions from a VM's end."""
        name = kernel_of(node)
        progress = self._progress[name]
        self._slots.release(name)
        ending = progress.ending
        if ending is None or ending.how in (End.DONE, End.STOPPED):
            if ending is None and error and self._fleet.is_cut_off(name):
                self._cut_off(name, node)
            elif ending is None and error:
                self._bury_relay(name, error)
        elif ending.how is End.INFRASTRUCTURE:
            self._break(name, ending.why)
        else:
            self._lose(name, ending.why)
        if progress.started is not None:
            self._recorder.kernels[name].suite_seconds = round(time.monotonic() - progress.started, 2)

    def _cut_off(self, name: str, node: Any) -> None:
        """Give a kernel up whose machine is out of reach."""
        connection = self._fleet.connection(name)
        assert connection is not None
        self._break(name, f"{connection.place.word}: the connection broke: {connection.last_words}")
        # xdist is about to start another worker by this specification: one that has nothing to do, on this machine.
        node.gateway.spec.via = None

    def _bury_relay(self, name: str, error: object) -> None:
        progress = self._progress[name]
        why = f"its relay on the host died: {str(error).strip().splitlines()[-1]}"
        if self._is_given_up(name):
            # It died with nothing to do, and so will the next: have xdist replace no worker any more.
            self._config.pluginmanager.getplugin("dsession")._max_worker_restart = 0
        elif progress.started is None:
            self._break(name, why)
        else:
            self._lose(name, why)

    def _break(self, name: str, why: str) -> None:
        progress = self._progress[name]
        progress.trouble.append(why)
        self._scheduling.give_up(name)
        self._board.show(name, f"failed: {why}")
        self._report_error(name, f"{name} could not run: {why}")

    def _lose(self, name: str, why: str) -> None:
        progress = self._progress[name]
        progress.lost += 1
        if self._is_given_up(name):
            self._scheduling.give_up(name)
            if not self._scheduling.collected(name) or self._scheduling.left(name):
                self._report_error(name, f"{name} is given up: {progress.lost} of its VMs were lost ({why})")

    def _is_given_up(self, name: str) -> bool:
        progress = self._progress[name]
        return bool(progress.trouble) or progress.lost >= self._plan.lost_vms

    def _report_error(self, name: str, message: str, *, excerpt: str | None = None) -> None:
        """Have pytest report an error that is no case's, with `excerpt` or the last words of the console."""
        report = KernelReport(
            nodeid=f"kernel {name}",
            location=(f"kernel {name}", None, f"kernel {name}"),
            keywords={},
            outcome="failed",
            longrepr=message,
            when="setup",
        )
        excerpt = console.tail(self._read_console(name)) if excerpt is None else excerpt
        if excerpt:
            report.sections.append((f"console of {name}", excerpt))
        self._board.tell(f"{name}: ERROR {message}")
        self._config.hook.pytest_runtest_logreport(report=report)

    # The end.

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Have pytest know how many cases there were on all kernels, not on the last that collected."""
        result = yield
        session.testscollected = sum(progress.total for progress in self._progress.values())
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """End what still runs, judge every kernel, and write the results before pytest sums up."""
        for progress in self._progress.values():
            with contextlib.suppress(OSError, AttributeError):
                progress.status.send(str(Say.STOP))
        if self._collecting is not None:
            self._collecting.kill()
            self._collecting.wait()
        self._scratch.close()
        with contextlib.suppress(AttributeError):  # the run ended before xdist began
            self._fleet.forget_cut_off(self._gateways)
        result = yield
        self._fleet.close()
        self._board.stop()
        for name in self._plan.kernels:
            self._judge(name)
        distributed = self._config.pluginmanager.getplugin("dsession")
        if exitstatus == pytest.ExitCode.INTERRUPTED and getattr(distributed, "shouldstop", False):
            # By -x or --maxfail, not by the user.
            exitstatus = pytest.ExitCode.TESTS_FAILED
        kernels = list(self._recorder.kernels.values())
        self._publication.publish(session, exitstatus, kernels=kernels, directory=self._directory)
        return result

    def _judge(self, name: str) -> None:
        result, progress = self._recorder.kernels[name], self._progress[name]
        why = f"{progress.lost} VMs were lost" if progress.lost else "the run ended before"
        self._recorder.add_not_run(name, self._scheduling.left(name), reason=why)
        self._scan(name)
        lost_for_good = progress.lost > 0 and (
            not self._scheduling.collected(name) or any(case.outcome is Outcome.NOT_RUN for case in result.cases)
        )
        result.outcome = verdict_of(
            (case.outcome for case in result.cases),
            splats=bool(result.splats),
            lost=lost_for_good,
            broken=bool(progress.trouble),
            unfinished=not self._scheduling.collected(name) or bool(self._scheduling.left(name)),
        )
        result.reason = "; ".join([*progress.trouble, *([why] if lost_for_good else [])])
        self._board.show(name, f"done: {result.outcome}")

    def _scan(self, name: str) -> None:
        """Look for splats on a kernel's console; where that cannot be done, the kernel has not been tested."""
        result, progress = self._recorder.kernels[name], self._progress[name]
        if not result.vms:
            return
        try:
            if progress.unwritten:
                raise console.ConsoleError(progress.unwritten)
            found = console.scan(
                self._read_console(name), ran=self._recorder.ran(name), allowances=console.load_allowances()
            )
        except console.ConsoleError as error:
            progress.trouble.append(f"its console could not be scanned for splats: {error}")
            self._report_error(name, progress.trouble[-1])
            return
        for splat in found:
            result.splats.append(
                SplatResult(kind=splat.kind, title=splat.title, case=splat.case, excerpt=splat.excerpt)
            )
            if splat.case is not None:
                self._recorder.add_splat(name, splat.case, title=splat.title)
            during = f"while {splat.case} ran" if splat.case else "outside any case"
            self._report_error(name, f"{splat.title} ({during})", excerpt=splat.excerpt)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table of kernels and topics, and what differs between kernels."""
        self._publication.sum_up(terminalreporter)

    def _console_of(self, name: str) -> Path:
        return self._directory / name / "console.log"

    def _append_to_console(self, name: str, text: bytes) -> None:
        try:
            with self._lock, self._console_of(name).open("ab") as file:
                file.write(text)
        except OSError as error:
            # Told when the console is read: what is missing in it may be a splat.
            self._progress[name].unwritten = publishing.explain(self._directory, error)

    def _read_console(self, name: str) -> str:
        with self._lock, contextlib.suppress(FileNotFoundError):
            return self._console_of(name).read_text(encoding="utf-8", errors="replace").replace("\r", "")
        return ""


def collect_here(config: pytest.Config, file: Path) -> subprocess.Popen[bytes] | None:
    """Have another process collect the cases while kernels boot, for the bytecode that comes of it.

    A guest cannot keep any: to rewrite the assertions of all cases takes an emulated one a quarter of a minute, which
    pytest's own files spare it. `file` will hold what `vm.guest.bytecode` makes of everything else.
    """
    if sys.dont_write_bytecode:
        return None
    return subprocess.Popen(
        [*lifeline("KILL"), sys.executable, *_collecting(config), "-p", bytecode.__name__],
        env={**os.environ, bytecode.FILE: str(file)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _collecting(config: pytest.Config) -> list[str]:
    """Return the arguments with which a Python collects the cases of this run."""
    return [
        *("-m", "pytest", "--rootdir", str(config.rootpath), "--collect-only", "-q"),
        *(("-c", str(config.inipath)) if config.inipath else ()),
        *("-p", "no:cacheprovider", *config.args),
    ]


def plugins_of(config: pytest.Config) -> list[str]:
    """Return the names of the installed plugins that a worker in a guest needs.

    Those that are loaded here, except hypothesis's: at the end of every run it imports all of hypothesis.
    """
    plugins = [getattr(plugin, "__name__", "") for plugin, _ in config.pluginmanager.list_plugin_distinfo()]
    return [name for name in plugins if name and not name.startswith("_hypothesis")]


def local_worker(kernel: str) -> str:
    """Return execnet's specification of a worker on this machine for `kernel`."""
    return f"popen//id={kernel}//env:{KERNEL_VARIABLE}={kernel}"


def kernel_of(node: Any) -> str:
    """Return the name of a worker's kernel."""
    return str(node.gateway.spec.env[KERNEL_VARIABLE])

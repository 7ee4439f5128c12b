# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Start a worker for each kernel, and take in what its relay says."""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import vm.controller.worker
from harness.interface.keys import OBJECTS
from vm.base import insides
from vm.base.children import scratch_directory
from vm.base.fingerprint import fingerprint
from vm.base.paths import PROJECT
from vm.controller.collecting import collect_here, collection_arguments
from vm.controller.crew import Crew
from vm.controller.plan import Vm, kernel_of, local_worker, plugins_of, vm_of
from vm.controller.protocol import Alone, Booted, BootRequest, Ending, Instruction, Notice, Order, Progress, read_status
from vm.remote import transfer
from vm.report import console, publishing

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from vm.boot.acceleration import Acceleration
    from vm.controller.run import Run
    from vm.controller.scheduling import KernelScheduling


class Workers:
    """The plugin that starts workers and listens to relays."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._plan = run.plan
        self._connections = run.connections
        self._crew = run.scheduling.listener = Crew(run)
        self._collecting: subprocess.Popen[bytes] | None = None
        self._scratch = contextlib.ExitStack()
        self._bytecode: Path | None = None
        self._fingerprint = fingerprint()
        self._lock = threading.Lock()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Connect to other machines and begin to collect, before xdist starts its workers."""
        config = self._run.config
        for name in self._plan.kernels:
            try:
                (self._run.directory / name).mkdir(exist_ok=True)
            except OSError as error:
                pytest.exit(
                    str(publishing.results_error(self._run.directory, error)), returncode=publishing.UNPUBLISHED
                )
            result = self._run.recorder.kernels[name]
            result.console = f"{name}/console.log"
            result.machine = self._connections.word(Vm(name))
            result.append = list(self._plan.options.append)
            result.memory, result.cpus = self._plan.options.memory, self._plan.options.cpus
        self._run.publication.begin(self._run.directory, kernels=list(self._run.recorder.kernels.values()))
        insides.silence(config)
        self._run.board.start()
        self._reach_machines()
        self._connections.collect(collection_arguments(config), root=PROJECT)
        if None in [host for name in self._plan.kernels for host in self._run.machines(name)]:
            # Without room for the bytecode guests import from files, which takes them longer.
            with contextlib.suppress(OSError):
                self._bytecode = self._scratch.enter_context(scratch_directory()) / "bytecode"
                self._collecting = collect_here(config, self._bytecode, tell=self._take_cases)

    def _take_cases(self, cases: tuple[str, ...]) -> None:
        """Take note of the cases that were collected here; called in a thread."""
        self._run.found_here = cases
        for name in self._plan.kernels:
            self._reconsider(name)

    def _reconsider(self, kernel: str) -> None:
        """Start other VMs beside one that boots, if that pays; to be called in any thread."""
        insides.call_among_messages(self._run.config, partial(self._crew.changed, kernel))

    def _reach_machines(self) -> None:
        config = self._run.config
        for name in self._plan.kernels:
            if word := self._connections.word(Vm(name)):
                self._run.board.show(name, f"connecting to {word}")
        plugins = {name.partition(".")[0] for name in plugins_of(config)}
        self._connections.connect(
            root=PROJECT,
            parts=self._plan.parts,
            modules=sorted({"execnet", "pytest", "qemu", "virtme", "xdist", *plugins}),
            tell=self._run.board.tell,
        )
        for why in self._connections.refusals(beside=[Vm(name) for name in self._plan.kernels]):
            self._run.board.tell(f"no VM runs there: {why}")
        if not insides.can_join(config):
            config.option.px = [*config.option.px, *self._connections.proxy_specifications()]
        config.option.tx = [self._connections.specification(vm, local_worker(vm)) for vm in self._run.vms]

    def pytest_xdist_setupnodes(self) -> None:
        """Have xdist know the gateways to other machines, before it starts workers there."""
        if insides.can_join(self._run.config):
            insides.join(self._run.config, self._connections.gateways)

    def pytest_xdist_getremotemodule(self) -> Any:
        """Have workers be relays to VMs."""
        return vm.controller.worker

    def pytest_xdist_make_scheduler(self) -> KernelScheduling:
        """Give each kernel its own cases."""
        return self._run.scheduling

    @pytest.hookimpl(trylast=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send a worker its order, and the files that other plugins have for it."""
        vm = vm_of(node)
        name, state = vm.kernel, self._run.vms[vm]
        status = node.gateway.newchannel()
        status.setcallback(lambda message: self._take_status(vm, message))
        if state.ending is not None and not self._run.is_given_up(name):
            self._run.consoles.append(vm, f"\n{console.NEW_VM}{state.ending.why}\n".encode())
        cut_off = state.over and self._connections.host(vm) is not None and not node.gateway.spec.via
        needed = not state.over or (self._crew.is_needed(vm) and not cut_off)
        state.status, state.ending, state.over, state.idle = status, None, False, not needed
        self._run.scheduling.expect(node)
        connection = self._connections.connection(vm) if node.gateway.spec.via else None
        if connection is not None:
            node.workerinput[OBJECTS] = transfer.pack(node.workerinput.get(OBJECTS, {}))
        order = Order(
            kernel=name,
            word=self._plan.kernels[name],
            directory=connection.directory if connection is not None else None,
            home=str(PROJECT),
            fingerprint=self._fingerprint,
            timeout=self._plan.timeout,
            acceleration=self._acceleration_of(vm),
            options=self._plan.options,
            mirror=self._plan.mirror,
            plugins=plugins_of(self._run.config),
            bytecode=str(self._bytecode) if self._bytecode is not None else None,
            idle=not needed,
            refusal=self._connections.refusal(vm),
        )
        node.workerinput["vm"] = order.to_message()
        node.workerinput["status"] = status

    def _acceleration_of(self, vm: Vm) -> Acceleration | None:
        """Return how to run a kernel: as the user wants it, or emulated if KVM failed with its first VM there."""
        there = self._connections.host(vm) == self._connections.host(Vm(vm.kernel))
        emulated = there and self._run.recorder.kernels[vm.kernel].accel == "tcg"
        return self._plan.acceleration or ("tcg" if emulated else None)

    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Record how many cases a kernel has."""
        name = kernel_of(node)
        state = self._run.kernels[name]
        state.total = max(state.total, len(ids))
        if state.started is not None and state.seconds_to_come_up is None:
            state.seconds_to_come_up = time.monotonic() - state.started
        if ids:
            self._run.publication.expect(self._run.recorder.kernels[name], ids)
            self._run.show_count(name)

    def pytest_testnodeready(self, node: Any) -> None:
        """Have the heading of a failure name the kernel, not the worker."""
        result = self._run.recorder.kernels[kernel_of(node)]
        node.workerinfo["id"] = f"{result.name}: Linux {result.release}" if result.release else result.name

    def _take_status(self, vm: Vm, message: Any) -> None:
        """Take in what a relay says; called in execnet's threads."""
        status = read_status(message)
        run, state = self._run, self._run.vms[vm]
        match status:
            case bytes():
                run.consoles.append(vm, status)
            case Progress():
                run.show_phase(vm, f"{status.phase} {status.detail}".strip())
            case Notice():
                run.board.tell(f"{vm.kernel}: {status.line}{run.where(vm)}")
            case BootRequest():
                state.host = status.host
                if vm.number == 1:
                    run.kernels[vm.kernel].seconds_before = status.seconds_before
                run.admission.request(vm, host=status.host, capacity=status.capacity, start=lambda: self._let_boot(vm))
            case Booted():
                with self._lock:
                    self._note_boot(vm, status)
            case Alone():
                run.kernels[vm.kernel].alone = status.cases
            case Ending():
                state.ending = status
                run.admission.release(vm)

    def _note_boot(self, vm: Vm, booted: Booted) -> None:
        result = self._run.recorder.kernels[vm.kernel]
        result.vms += 1
        if result.vms == 1:
            result.release, result.version = booted.release, booted.version
            result.cmdline, result.accel = booted.cmdline, booted.acceleration
            result.boot_seconds, result.notes = booted.seconds, list(booted.notes)
        machines, word = self._run.kernels[vm.kernel].machines, self._connections.word(vm)
        if word not in machines:
            machines.append(word)
            if (result.release, result.version) != (booted.release, booted.version):
                self._run.go_on_without(vm, f"the kernel there is {booted.release} {booted.version}".rstrip())
                self._run.vms[vm].status.send(str(Instruction.RETIRE))
                return
        result.machine = ", ".join(each or "here" for each in machines) if len(machines) > 1 else word
        self._run.show_phase(vm, f"collecting, booted Linux {booted.release} in {booted.seconds:.0f} s")

    def _let_boot(self, vm: Vm) -> None:
        kernel, state = self._run.kernels[vm.kernel], self._run.vms[vm]
        state.boots = True
        if kernel.started is None:
            kernel.started = time.monotonic()
        with contextlib.suppress(OSError):
            state.status.send(str(Instruction.GO))
        self._reconsider(vm.kernel)

    def stop(self) -> None:
        """Have every relay end its VM, and end the collecting process."""
        for state in self._run.vms.values():
            with contextlib.suppress(OSError, AttributeError):
                state.status.send(str(Instruction.STOP))
        if self._collecting is not None:
            self._collecting.kill()
            self._collecting.wait()
        self._scratch.close()
        insides.forget(self._run.config, through=self._connections.broken_gateways)

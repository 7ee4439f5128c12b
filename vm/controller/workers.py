# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Start a worker for each kernel, and take in what its relay says."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

import vm.controller.worker
from harness.interface.keys import OBJECTS
from vm.base import insides
from vm.base.children import scratch_directory
from vm.base.fingerprint import fingerprint
from vm.base.paths import PROJECT
from vm.controller.collecting import collect_here, collection_arguments
from vm.controller.plan import kernel_of, local_worker, plugins_of
from vm.controller.protocol import Booted, BootRequest, Ending, Instruction, Notice, Order, Progress, read_status
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
        self._collecting: subprocess.Popen[bytes] | None = None
        self._scratch = contextlib.ExitStack()
        self._bytecode: Path | None = None
        self._fingerprint = fingerprint()

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
            result.machine = self._connections.word(name)
            result.append = list(self._plan.options.append)
            result.memory, result.cpus = self._plan.options.memory, self._plan.options.cpus
        self._run.publication.begin(self._run.directory, kernels=list(self._run.recorder.kernels.values()))
        insides.silence(config)
        self._run.board.start()
        self._reach_machines()
        self._connections.collect(collection_arguments(config), root=PROJECT)
        if not all(self._connections.word(name) for name in self._plan.kernels):
            # Without room for the bytecode guests import from files, which takes them longer.
            with contextlib.suppress(OSError):
                self._bytecode = self._scratch.enter_context(scratch_directory()) / "bytecode"
                self._collecting = collect_here(config, self._bytecode)

    def _reach_machines(self) -> None:
        config = self._run.config
        for name in self._plan.kernels:
            if self._connections.word(name):
                self._run.board.show(name, f"connecting to {self._connections.word(name)}")
        plugins = {name.partition(".")[0] for name in plugins_of(config)}
        self._connections.connect(
            root=PROJECT,
            parts=self._plan.parts,
            modules=sorted({"execnet", "pytest", "qemu", "virtme", "xdist", *plugins}),
            tell=self._run.board.tell,
        )
        if not insides.can_join(config):
            config.option.px = [*config.option.px, *self._connections.proxy_specifications()]
        config.option.tx = [self._connections.specification(name, local_worker(name)) for name in self._plan.kernels]

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
        name = kernel_of(node)
        state = self._run.kernels[name]
        given_up = self._run.is_given_up(name)
        status = node.gateway.newchannel()
        status.setcallback(lambda message: self._take_status(name, message))
        if state.ending is not None and not given_up:
            self._run.consoles.append(name, f"\n{console.NEW_VM}{state.ending.why}\n".encode())
        state.status, state.ending = status, None
        nothing_left = self._run.scheduling.collected(name) and not self._run.scheduling.left(name)
        connection = self._connections.connection(name) if node.gateway.spec.via else None
        if connection is not None:
            node.workerinput[OBJECTS] = transfer.pack(node.workerinput.get(OBJECTS, {}))
        order = Order(
            kernel=name,
            word=self._plan.kernels[name],
            directory=connection.directory if connection is not None else None,
            home=str(PROJECT),
            fingerprint=self._fingerprint,
            timeout=self._plan.timeout,
            acceleration=self._acceleration_of(name),
            options=self._plan.options,
            mirror=self._plan.mirror,
            plugins=plugins_of(self._run.config),
            bytecode=str(self._bytecode) if self._bytecode is not None else None,
            idle=nothing_left or given_up,
            refusal=self._connections.refusal(name),
        )
        node.workerinput["vm"] = order.to_message()
        node.workerinput["status"] = status

    def _acceleration_of(self, name: str) -> Acceleration | None:
        """Return how to run a kernel: as the user wants it, or emulated if KVM failed with its first VM."""
        emulated = self._run.recorder.kernels[name].accel == "tcg"
        return self._plan.acceleration or ("tcg" if emulated else None)

    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Record how many cases a kernel has."""
        name = kernel_of(node)
        state = self._run.kernels[name]
        state.total = max(state.total, len(ids))
        if ids:
            self._run.publication.expect(self._run.recorder.kernels[name], ids)
            self._run.show_count(name)

    def pytest_testnodeready(self, node: Any) -> None:
        """Have the heading of a failure name the kernel, not the worker."""
        result = self._run.recorder.kernels[kernel_of(node)]
        node.workerinfo["id"] = f"{result.name}: Linux {result.release}" if result.release else result.name

    def _take_status(self, name: str, message: Any) -> None:
        """Take in what a relay says; called in execnet's threads."""
        status = read_status(message)
        run, result = self._run, self._run.recorder.kernels[name]
        match status:
            case bytes():
                run.consoles.append(name, status)
            case Progress():
                run.board.show(name, f"{status.phase} {status.detail}".strip() + run.where(name))
            case Notice():
                run.board.tell(f"{name}: {status.line}{run.where(name)}")
            case BootRequest():
                run.admission.request(
                    name, host=status.host, capacity=status.capacity, start=lambda: self._let_boot(name)
                )
            case Booted():
                result.vms += 1
                if result.vms == 1:
                    result.release, result.version = status.release, status.version
                    result.cmdline, result.accel = status.cmdline, status.acceleration
                    result.boot_seconds, result.notes = status.seconds, list(status.notes)
                line = f"collecting, booted Linux {status.release} in {status.seconds:.0f} s"
                run.board.show(name, line + run.where(name))
            case Ending():
                run.kernels[name].ending = status
                run.admission.release(name)

    def _let_boot(self, name: str) -> None:
        state = self._run.kernels[name]
        if state.started is None:
            state.started = time.monotonic()
        with contextlib.suppress(OSError):
            state.status.send(str(Instruction.GO))

    def stop(self) -> None:
        """Have every relay end its VM, and end the collecting process."""
        for state in self._run.kernels.values():
            with contextlib.suppress(OSError, AttributeError):
                state.status.send(str(Instruction.STOP))
        if self._collecting is not None:
            self._collecting.kill()
            self._collecting.wait()
        self._scratch.close()
        insides.forget(self._run.config, through=self._connections.broken_gateways)

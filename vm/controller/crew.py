# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Decide how many VMs share the cases of a kernel: start another while enough cases wait, end one that is too late.

A kernel's first VM shows that it boots and says what its cases are. Another is started when there is room for it, every
other kernel on that machine has a VM, and the cases that wait would take each VM much longer than a boot does. Where
the last VM with the same image came up, the first one has nothing to show: others are started beside it, if the cases
that the host has found would take that long.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from vm.base import insides
from vm.controller.plan import Vm, local_worker, vm_of
from vm.controller.protocol import Instruction

if TYPE_CHECKING:
    from vm.controller.run import Run
    from vm.remote.hosts import Host

WORTH = 1.5
"""What waits for each VM has to take this many times as long as another VM takes to be up."""


class Crew:
    """The listener of the scheduling (`vm.controller.scheduling.Listener`)."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def changed(self, kernel: str) -> None:
        """Start other VMs for a kernel if that pays."""
        scheduling, connections = self._run.scheduling, self._run.connections
        while (scheduling.is_taken_care_of(kernel) or self._will_boot(kernel)) and self.pays(kernel):
            machines = [host for host in self._run.machines(kernel) if connections.is_reached(host)]
            if not scheduling.collected(kernel):
                machines = [host for host in machines if host == connections.host(Vm(kernel))]
            there = Counter(map(connections.host, self._run.vms_of(kernel)))
            room = [host for host in sorted(machines, key=there.__getitem__) if self.has_room(host)]
            if not room:
                return
            self._start(kernel, room[0])

    def retire(self, node: Any) -> None:
        """Have a VM not come up; what it was ordered for is done."""
        vm = self._run.vms[vm_of(node)]
        vm.idle = True
        with contextlib.suppress(OSError):
            vm.status.send(str(Instruction.RETIRE))

    def is_needed(self, vm: Vm) -> bool:
        """Return whether a worker that replaces the one of a VM has to boot again."""
        scheduling = self._run.scheduling
        if self._run.is_given_up(vm.kernel):
            return False
        if not scheduling.collected(vm.kernel):
            return True
        return scheduling.waits(vm.kernel) and (not scheduling.is_taken_care_of(vm.kernel) or self.pays(vm.kernel))

    def pays(self, kernel: str) -> bool:
        """Return whether one more VM of a kernel would end its cases much earlier."""
        run, state = self._run, self._run.kernels[kernel]
        if run.scheduling.collected(kernel):
            seconds, boot = run.scheduling.waiting_seconds(kernel), state.seconds_to_come_up
        else:
            seconds, boot = run.expected_seconds(kernel), state.seconds_before
        if seconds is None or boot is None or not state.may_have_more:
            return False
        return seconds > WORTH * boot * len(run.vms_of(kernel))

    def _will_boot(self, kernel: str) -> bool:
        """Return whether the VMs of a kernel will boot as the last one with the same image did: none has ended yet."""
        states = {vm: state for vm, state in self._run.vms.items() if vm.kernel == kernel}
        known = self._run.kernels[kernel].seconds_before is not None and states[Vm(kernel)].boots
        ended = any(state.ending is not None for state in states.values())
        return known and not ended and self._run.scheduling.is_awaited(kernel)

    def has_room(self, host: Host | None) -> bool:
        """Return whether another VM may be started on a machine, every kernel there having one."""
        run = self._run
        there = [vm for vm in run.vms if run.connections.host(vm) == host]
        for kernel in {vm.kernel for vm in there if vm.number == 1}:
            is_through = run.is_given_up(kernel) or (
                run.scheduling.collected(kernel) and not run.scheduling.waits(kernel)
            )
            if not is_through and not any(run.vms[vm].boots for vm in run.vms_of(kernel)):
                return False
        states = [run.vms[vm] for vm in there]
        coming = [state for state in states if not (state.over or state.idle or state.boots)]
        names = {state.host for state in states if state.host}
        if not names:  # nothing is known of this machine yet: it takes one VM at least
            return not coming
        return all(run.admission.room(name) > len(coming) for name in names)

    def _start(self, kernel: str, host: Host | None) -> None:
        run = self._run
        vm = Vm(kernel, 1 + max(vm.number for vm in run.vms if vm.kernel == kernel))
        run.connections.place(vm, host)
        run.add(vm)
        try:
            started = insides.add_worker(run.config, run.connections.specification(vm, local_worker(vm)))
            why = "xdist starts no further workers"
        except OSError as error:
            started, why = False, str(error)
        if not started:
            run.vms[vm].over = True
            run.go_on_without(vm, why)

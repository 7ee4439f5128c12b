# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""When a kernel gets another VM: if that pays, and if no other kernel on the machine waits for its first."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, cast

import pytest

from vm.controller.admission import Admission
from vm.controller.crew import Crew
from vm.controller.plan import Vm
from vm.controller.run import KernelState, Run, VmState

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = "here"  # as relays call the machine
WAITS, BOOTS = VmState(host=HERE), VmState(host=HERE, boots=True)
OVER, IDLE, FETCHES = VmState(host=HERE, over=True), VmState(host=HERE, idle=True), VmState()
FIRST, OTHER = Vm("k"), Vm("other")


@pytest.mark.parametrize(
    ("waiting", "vms", "pays"),
    [(None, 1, False), (0.0, 1, False), (29.0, 1, False), (31.0, 1, True), (59.0, 2, False), (61.0, 2, True)],
)
def test_another_vm_pays_if_more_waits_for_each_than_it_takes_to_boot(
    waiting: float | None, vms: int, pays: bool
) -> None:
    """Here a boot takes 20 seconds."""
    run = Namespace(
        kernels={"k": KernelState(seconds_to_come_up=20.0)},
        scheduling=Namespace(waiting_seconds=lambda kernel: waiting, collected=lambda kernel: True),
        vms_of=lambda kernel: [Vm(kernel, number) for number in range(vms)],
    )
    assert Crew(cast("Run", run)).pays("k") is pays


@pytest.mark.parametrize(
    ("expected", "before", "pays"),
    [
        pytest.param(31.0, 20.0, True, id="it came up, and much waits"),
        pytest.param(29.0, 20.0, False, id="it came up, and little waits"),
        pytest.param(None, 20.0, False, id="nobody knows how long the cases take"),
        pytest.param(31.0, None, False, id="nobody knows whether it comes up"),
    ],
)
def test_another_vm_pays_beside_one_that_boots(expected: float | None, before: float | None, pays: bool) -> None:
    run = Namespace(
        kernels={"k": KernelState(seconds_before=before)},
        scheduling=Namespace(collected=lambda kernel: False),
        expected_seconds=lambda kernel: expected,
        vms_of=lambda kernel: [Vm(kernel)],
    )
    assert Crew(cast("Run", run)).pays("k") is pays


@pytest.mark.parametrize(
    ("vms", "limit", "room"),
    [
        pytest.param({FIRST: BOOTS}, 2, True, id="room for two"),
        pytest.param({FIRST: BOOTS}, 1, False, id="room for one"),
        pytest.param({FIRST: BOOTS, OTHER: BOOTS}, 2, False, id="each kernel has one"),
        pytest.param({FIRST: BOOTS, OTHER: BOOTS}, 3, True, id="each kernel has one and there is room"),
        pytest.param({FIRST: BOOTS, OTHER: WAITS}, 3, False, id="another kernel waits for its first"),
        pytest.param({FIRST: BOOTS, OTHER: FETCHES}, 3, False, id="another kernel is fetched"),
        pytest.param({FIRST: BOOTS, OTHER: OVER}, 3, False, id="the VM of another kernel is lost"),
        pytest.param({FIRST: BOOTS, Vm("through"): OVER}, 2, True, id="another kernel is through"),
        pytest.param({FIRST: BOOTS, Vm("given up"): OVER}, 2, True, id="another kernel is given up"),
        pytest.param({FIRST: BOOTS, Vm("k", 2): FETCHES}, 2, False, id="a second one is on its way"),
        pytest.param({FIRST: BOOTS, Vm("k", 2): IDLE}, 2, True, id="a second one was let go"),
    ],
)
def test_kernels_come_before_second_vms(vms: Mapping[Vm, VmState], limit: int, room: bool) -> None:
    assert Crew(run_of(vms, limit)).has_room(None) is room


def test_machine_that_nothing_is_known_of_takes_one() -> None:
    assert Crew(run_of({}, None)).has_room(None)
    assert not Crew(run_of({Vm("k", 2): FETCHES}, None)).has_room(None)


def run_of(vms: Mapping[Vm, VmState], limit: int | None) -> Run:
    """Return what a crew looks at of a run with VMs on one machine, which takes `limit` at once."""
    admission = Admission(limit)
    for vm, state in vms.items():
        if state.boots:
            admission.request(vm, host=HERE, capacity=1, start=lambda: None)
    run = Namespace(
        vms=dict(vms),
        connections=Namespace(host=lambda vm: None),
        admission=admission,
        is_given_up=lambda kernel: kernel == "given up",
        scheduling=Namespace(collected=lambda kernel: True, waits=lambda kernel: kernel != "through"),
    )
    run.vms_of = lambda kernel: Run.vms_of(cast("Run", run), kernel)
    return cast("Run", run)

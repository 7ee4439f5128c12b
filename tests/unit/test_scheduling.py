# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which worker gets which cases."""

from __future__ import annotations

from vm.controller.scheduling import KernelScheduling


class Worker:
    """What the scheduling asks of xdist's worker, noted down."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.told: list[object] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.told.append(list(indices))

    def shutdown(self) -> None:
        self.told.append("shutdown")


def test_worker_of_a_kernel_that_was_given_up_collects_nothing_and_is_let_go() -> None:
    """Its kernel's cases stay unknown: a kernel that dies while it collects has not passed."""
    scheduling = KernelScheduling(["dying", "well"], name_of=lambda worker: worker.kernel)
    scheduling.give_up("dying")
    idle, busy = Worker("dying"), Worker("well")
    collected: list[tuple[Worker, list[str]]] = [(idle, []), (busy, ["a", "b"])]
    for worker, cases in collected:
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, cases)
    scheduling.schedule()
    assert not scheduling.collected("dying")
    assert idle.told == ["shutdown"]
    assert busy.told == [[0, 1], "shutdown"]
    assert not scheduling.tests_finished
    for case in (0, 1):
        scheduling.mark_test_complete(busy, case)
    assert scheduling.tests_finished

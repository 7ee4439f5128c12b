# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which worker gets which cases, and how those of one kernel are dealt to several."""

from __future__ import annotations

import pytest

from vm.controller.dealing import PORTION, Dealing
from vm.controller.durations import durations
from vm.controller.scheduling import KernelScheduling
from vm.report.history import Entry, History


class Worker:
    """What the scheduling asks of xdist's worker, noted down."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.told: list[object] = []
        self.shutting_down = self.is_dead = False

    def send_runtest_some(self, indices: list[int]) -> None:
        if self.is_dead:
            raise OSError("cannot send")
        self.told.append(list(indices))

    def shutdown(self) -> None:
        self.told.append("shutdown")
        self.shutting_down = True


class Listener:
    """What the scheduling says, noted down."""

    def __init__(self) -> None:
        self.retired: list[Worker] = []

    def changed(self, kernel: str) -> None:
        pass

    def retire(self, node: Worker) -> None:
        self.retired.append(node)


class Kernel:
    """A kernel whose cases take a second each, and its workers."""

    def __init__(self, cases: list[str], *, alone: tuple[str, ...] = (), whole: bool = False) -> None:
        self.cases = cases
        times = dict.fromkeys(cases, 1.0)
        self.scheduling = KernelScheduling(
            ["k"],
            name_of=lambda worker: worker.kernel,
            deal=lambda _, collected: Dealing(collected, seconds=times, alone=alone, whole=whole),
        )
        self.listener = self.scheduling.listener = Listener()
        self.ran: list[tuple[Worker, str]] = []

    def ordered(self) -> Worker:
        """Return a worker whose VM boots."""
        worker = Worker("k")
        self.scheduling.expect(worker)
        return worker

    def up(self, worker: Worker | None = None, cases: list[str] | None = None) -> Worker:
        """Have a worker collect."""
        worker = worker or self.ordered()
        self.scheduling.add_node(worker)
        self.scheduling.add_node_collection(worker, self.cases if cases is None else cases)
        self.scheduling.schedule()
        return worker

    def queue(self, worker: Worker) -> list[int]:
        """Return what a worker was sent and has not run."""
        sent = [index for told in worker.told if isinstance(told, list) for index in told]
        return sent[sum(1 for at, _ in self.ran if at is worker) :]

    def step(self, worker: Worker) -> bool:
        """Have a worker run its next case as xdist's does: it knows the one after, or that there is none."""
        queue = self.queue(worker)
        if len(queue) < (1 if worker.shutting_down else 2):
            return False
        self.ran.append((worker, self.cases[queue[0]]))
        self.scheduling.mark_test_complete(worker, queue[0], 1.0)
        return True

    def finish(self, *workers: Worker) -> None:
        """Have workers run in turn until none goes on."""
        running = list(workers)
        while running:
            running = [worker for worker in running if self.step(worker) or not self.leave(worker)]
            if not any(len(self.queue(worker)) > 1 or worker.shutting_down for worker in running):
                return

    def die(self, worker: Worker) -> str | None:
        """Have a worker's VM die, which xdist knows before it says so; return the case that is blamed."""
        worker.shutting_down = worker.is_dead = True
        return self.scheduling.remove_node(worker)

    def leave(self, worker: Worker) -> bool:
        """Have a worker end that was told to and has run everything."""
        if not worker.shutting_down or self.queue(worker):
            return False
        assert self.scheduling.remove_node(worker) is None
        return True

    def by(self, worker: Worker) -> list[str]:
        """Return what a worker has run."""
        return [case for at, case in self.ran if at is worker]


def files(**counts: int) -> list[str]:
    """Return the cases of files."""
    return [f"{name}.py::test_{number}" for name, count in counts.items() for number in range(count)]


def test_worker_of_a_kernel_that_was_given_up_collects_nothing_and_is_let_go() -> None:
    """Its kernel's cases stay unknown: a kernel that dies while it collects has not passed."""
    scheduling = KernelScheduling(
        ["dying", "well"],
        name_of=lambda worker: worker.kernel,
        deal=lambda _, cases: Dealing(cases, seconds={}, whole=True),
    )
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


def test_one_vm_gets_everything_at_once_in_the_order_of_the_files() -> None:
    kernel = Kernel(files(a=2, b=9), alone=("a.py::test_0",), whole=True)
    assert kernel.up().told == [list(range(11)), "shutdown"]


def test_second_vm_takes_the_longest_file_that_is_left_and_both_end_together() -> None:
    kernel = Kernel(files(short=4, longest=30, long=20))
    first = kernel.up()
    assert kernel.queue(first)[0] == 4, "the first case of the longest file"
    assert not first.shutting_down
    second = kernel.up()
    assert kernel.queue(second)[0] == 34
    kernel.finish(first, second)
    assert sorted(case for _, case in kernel.ran) == sorted(kernel.cases), "each once"
    assert abs(len(kernel.by(first)) - len(kernel.by(second))) <= 2 * PORTION
    assert kernel.scheduling.tests_finished


def test_one_file_is_split() -> None:
    kernel = Kernel(files(only=40))
    first = kernel.up()
    for _ in range(10):
        assert kernel.step(first)
    second = kernel.up()
    kernel.finish(first, second)
    assert abs(len(kernel.by(first)) - 25) < 4
    assert abs(len(kernel.by(second)) - 15) < 4
    assert kernel.scheduling.left("k") == []


def test_vm_that_dies_loses_the_case_that_ran_and_no_other() -> None:
    kernel = Kernel(files(a=30, b=30))
    first, second = kernel.up(), kernel.up()
    assert kernel.step(first)
    running = kernel.cases[kernel.queue(first)[0]]
    kernel.ran = [(at, case) for at, case in kernel.ran if at is not first]
    assert kernel.scheduling.remove_node(first) == running
    kernel.finish(second)
    assert len(kernel.by(second)) == len(kernel.cases) - 2
    assert running not in kernel.by(second)
    assert kernel.scheduling.left("k") == []
    assert kernel.scheduling.tests_finished


def test_vm_that_died_before_its_first_case_loses_none() -> None:
    kernel = Kernel(files(a=30))
    dead = kernel.ordered()
    dead.is_dead = True
    kernel.up(dead)
    assert kernel.scheduling.remove_node(dead) is None
    well = kernel.up()
    kernel.finish(well)
    assert kernel.by(well) == kernel.cases


def test_vm_that_comes_too_late_is_let_go() -> None:
    kernel = Kernel(files(a=6))
    first, late = kernel.up(), kernel.ordered()
    kernel.finish(first)
    assert kernel.listener.retired == [late]
    assert kernel.up(late, cases=[]).told == ["shutdown"]
    assert kernel.scheduling.tests_finished


def test_more_vms_than_cases() -> None:
    kernel = Kernel(files(a=2))
    first, second, third = kernel.up(), kernel.up(), kernel.up()
    assert (second.told, third.told) == (["shutdown"], ["shutdown"])
    kernel.finish(first, second, third)
    assert kernel.by(first) == kernel.cases


def test_cases_that_need_the_machine_run_last_on_the_one_vm_that_is_left() -> None:
    alone = ("races.py::test_0", "races.py::test_1", "races.py::test_2")
    kernel = Kernel(files(a=9, races=3, b=9), alone=alone)
    first, second, late = kernel.up(), kernel.up(), kernel.ordered()
    while kernel.step(first) or kernel.step(second):
        pass
    assert not set(alone) & {case for _, case in kernel.ran}
    assert kernel.listener.retired == [late]
    kernel.up(late, cases=[])
    ended, last = sorted((first, second), key=lambda worker: not worker.shutting_down)
    assert not last.shutting_down, "it waits"
    assert kernel.leave(ended)
    assert not kernel.step(last), "one is there still"
    assert kernel.leave(late)
    kernel.finish(last)
    assert tuple(kernel.by(last)[-3:]) == alone
    assert kernel.scheduling.tests_finished


def test_vm_that_dies_in_such_a_case_is_replaced_by_one_that_is_alone() -> None:
    alone = ("races.py::test_0", "races.py::test_1")
    kernel = Kernel(files(a=3, races=2), alone=alone)
    first = kernel.up()
    while kernel.queue(first)[0] != 3:
        assert kernel.step(first)
    assert kernel.scheduling.remove_node(first) == alone[0]
    assert kernel.scheduling.waits("k")
    assert not kernel.scheduling.is_taken_care_of("k")
    second = kernel.up()
    kernel.finish(second)
    assert kernel.by(second) == [alone[1]]


def test_vm_that_dies_while_it_waits_to_be_alone_had_not_begun_its_next_case() -> None:
    alone = ("races.py::test_0", "races.py::test_1")
    kernel = Kernel(files(a=9, races=2, b=9), alone=alone)
    first, second = kernel.up(), kernel.up()
    while kernel.step(first) or kernel.step(second):
        pass
    ended, waits = sorted((first, second), key=lambda worker: not worker.shutting_down)
    (next_case,) = (kernel.cases[index] for index in kernel.queue(waits))
    assert kernel.die(waits) is None
    assert kernel.scheduling.left("k") == [*sorted({next_case, *alone}, key=kernel.cases.index)]
    assert not kernel.scheduling.is_taken_care_of("k")
    assert kernel.leave(ended)
    third = kernel.up()
    kernel.finish(third)
    assert kernel.by(third) == [next_case, *alone]
    assert kernel.scheduling.tests_finished


def test_vm_that_dies_in_its_last_case_loses_it() -> None:
    kernel = Kernel(files(a=3))
    only = kernel.up()
    assert kernel.step(only)
    assert kernel.step(only)
    assert kernel.die(only) == kernel.cases[-1]


def test_vm_that_collected_other_cases_takes_none_from_the_others() -> None:
    kernel = Kernel(files(a=30))
    first = kernel.up()
    assert kernel.up(cases=files(a=29)).told == ["shutdown"]
    kernel.finish(first)
    assert kernel.by(first) == kernel.cases


def test_kernel_that_is_given_up_ends_with_what_its_vms_were_sent() -> None:
    kernel = Kernel(files(a=30, b=30))
    first, second = kernel.up(), kernel.up()
    kernel.scheduling.give_up("k")
    assert first.shutting_down
    assert second.shutting_down
    kernel.finish(first, second)
    assert kernel.scheduling.tests_finished
    assert 50 < len(kernel.scheduling.left("k")) < 60


def test_pace_is_that_of_this_run_whatever_earlier_ones_say() -> None:
    """Of a machine that is ten times as fast, say."""
    cases = files(a=100)
    dealing = Dealing(cases, seconds=dict.fromkeys(cases, 0.1))
    assert dealing.waiting_seconds == pytest.approx(10)
    first = dealing.take("vm")
    assert len(first) == 20
    for case in first:
        dealing.note(case, 1.0)
    assert dealing.waiting_seconds == pytest.approx(80)
    assert len(dealing.take("vm")) < 4


def test_cases_of_unknown_length_count_alike_and_nobody_guesses_how_long_they_take() -> None:
    cases = files(a=100)
    dealing = Dealing(cases, seconds={})
    assert dealing.waiting_seconds is None
    for case in dealing.take("vm"):
        dealing.note(case, 0.5)
    assert dealing.waiting_seconds == pytest.approx(40)


def entry(*seconds: float) -> Entry:
    return Entry(digest="", outcome="passed", since="", release="", seconds=list(seconds))


def test_durations_are_those_of_the_kernel_or_else_of_another() -> None:
    history = History(kernels={"6.1": {"a": entry(1, 5, 2), "b": entry()}, "6.12": {"a": entry(9), "b": entry(7)}})
    assert durations(history, "6.1", ["a", "b", "c"]) == {"a": 2, "b": 7}
    assert durations(history, "7.0", ["a"]) == {"a": 2}
    assert durations(History(), "6.1", ["a"]) == {}

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Give each VM its cases as soon as its worker has collected them.

xdist's `--dist=each` waits until all workers have collected, and has all of them run the first one's cases; a worker
that replaces another gets the rest only if it collected the same. But kernels boot at different times (some wait for
others to end), the cases depend on the kernel, and the VMs of one kernel share them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vm.controller.dealing import Dealing


@dataclass(eq=False)
class _Worker:
    """The worker in one VM, from the order to boot it on."""

    node: Any
    is_up: bool = False
    collection: list[str] | None = None
    pending: list[int] = field(default_factory=list)  # of its own collection, in the order they run
    retired: bool = False  # it is not to come up any more, or is known to have died
    knows_the_last: bool = False  # it was told, while it lived, that it gets no more cases

    @property
    def is_ending(self) -> bool:
        """Return whether it gets no more cases."""
        return self.retired or bool(self.node.shutting_down)

    def lacks(self, cases: Sequence[str]) -> bool:
        """Return whether some of the cases are not in its own collection."""
        return self.collection != cases and not set(self.collection or ()) >= set(cases)

    @property
    def cases(self) -> list[str]:
        """Return those that it was sent and has not ended."""
        return [self.collection[index] for index in self.pending] if self.collection else []

    @property
    def running(self) -> list[str]:
        """Return the case that it was running, if any: it begins one when it knows the next, or that there is none."""
        return self.cases[:1] if self.knows_the_last or len(self.pending) > 1 else []

    def end(self) -> None:
        """Tell it that it gets no more cases."""
        self.knows_the_last |= not self.node.shutting_down
        self.node.shutdown()


@dataclass
class _Kernel:
    """The cases of one kernel, and its workers."""

    collection: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)  # ended, or taken down with their VM
    dealing: Dealing | None = None  # None: not collected yet
    workers: dict[Any, _Worker] = field(default_factory=dict)  # by xdist's
    given_up: bool = False

    @property
    def left(self) -> list[str]:
        return [case for case in self.collection if case not in self.done]

    @property
    def waits(self) -> bool:
        """Return whether cases wait to be dealt."""
        return self.dealing is not None and (self.dealing.waiting or self.dealing.waiting_alone)


class Listener(Protocol):
    """The methods that the scheduling calls."""

    def changed(self, kernel: str) -> None:
        """Take note that cases of a kernel were dealt, or ended."""

    def retire(self, node: Any) -> None:
        """Have a VM that is not up yet not come up: there is nothing for it to do."""


class KernelScheduling:
    """xdist's `Scheduling` protocol."""

    def __init__(
        self,
        kernels: Sequence[str],
        *,
        name_of: Callable[[Any], str],
        deal: Callable[[str, Sequence[str]], Dealing],
    ) -> None:
        """`name_of` returns the kernel of a worker, `deal` how the cases of a kernel are dealt."""
        self._kernels = {name: _Kernel() for name in kernels}
        self._name_of = name_of
        self._deal = deal
        self.listener: Listener | None = None

    def left(self, kernel: str) -> list[str]:
        """Return the cases of `kernel` that have not run."""
        return self._kernels[kernel].left

    def collection(self, kernel: str) -> list[str]:
        """Return the cases of `kernel`, in the order in which its first VM collected them."""
        return self._kernels[kernel].collection

    def collected(self, kernel: str) -> bool:
        """Return whether the cases of `kernel` are known."""
        return self._kernels[kernel].dealing is not None

    def waits(self, kernel: str) -> bool:
        """Return whether cases of `kernel` wait for a VM."""
        return self._kernels[kernel].waits

    def waiting_seconds(self, kernel: str) -> float | None:
        """Return how long one VM would take for the cases that any VM of `kernel` may take; None: not known yet."""
        dealing = self._kernels[kernel].dealing
        return None if dealing is None else dealing.waiting_seconds if dealing.waiting else 0.0

    def at_work(self, kernel: str) -> int:
        """Return how many VMs of `kernel` run cases."""
        return sum(1 for worker in self._kernels[kernel].workers.values() if worker.pending)

    def is_taken_care_of(self, kernel: str) -> bool:
        """Return whether a VM of `kernel` is up that takes the cases that wait."""
        return any(worker.collection and not worker.is_ending for worker in self._kernels[kernel].workers.values())

    def is_awaited(self, kernel: str) -> bool:
        """Return whether VMs of `kernel` boot, and none of it has collected yet."""
        state = self._kernels[kernel]
        return state.dealing is None and any(not worker.is_ending for worker in state.workers.values())

    def give_up(self, kernel: str) -> None:
        """Run no more cases of `kernel` than its VMs have been sent: its next worker gets none."""
        state = self._kernels[kernel]
        state.given_up = True
        self._serve_all(state)

    def expect(self, node: Any) -> None:
        """Take note of a worker whose VM is about to be booted."""
        self._of(node).workers[node] = _Worker(node)

    # What xdist asks for.

    @property
    def nodes(self) -> list[Any]:
        """Return the workers that are up."""
        return [node for kernel in self._kernels.values() for node, worker in kernel.workers.items() if worker.is_up]

    @property
    def collection_is_completed(self) -> bool:
        """Return True: no kernel waits for the others."""
        return True

    @property
    def tests_finished(self) -> bool:
        """Return whether all kernels have run their cases."""
        return not self.has_pending and all(
            kernel.given_up or (kernel.dealing is not None and not kernel.waits) for kernel in self._kernels.values()
        )

    @property
    def has_pending(self) -> bool:
        """Return whether a case is running or waits to run."""
        return any(worker.pending for kernel in self._kernels.values() for worker in kernel.workers.values())

    def add_node(self, node: Any) -> None:
        """Add a worker that is up."""
        self._of(node).workers.setdefault(node, _Worker(node)).is_up = True

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Record a worker's collection; the first one of a kernel is the kernel's."""
        kernel = self._of(node)
        kernel.workers[node].collection = list(collection)
        # The last worker of a kernel that was given up has nothing to do, and what it collects is nothing.
        if kernel.dealing is None and not kernel.given_up:
            kernel.collection = list(collection)
            kernel.dealing = self._deal(self._name_of(node), collection)

    def schedule(self) -> None:
        """Send the workers that have collected and wait their cases."""
        for name, kernel in self._kernels.items():
            self._serve_all(kernel)
            self._tell(name)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Record that a worker has finished a case, after `duration` seconds."""
        kernel = self._of(node)
        worker = kernel.workers[node]
        worker.pending.remove(item_index)
        assert worker.collection is not None
        case = worker.collection[item_index]
        kernel.done.add(case)
        if kernel.dealing is not None:
            kernel.dealing.note(case, duration)
        self._serve(kernel, worker)
        self._tell(self._name_of(node))

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker; return the case that it was running, None if it was running none.

        Raises KeyError if the worker was never up.
        """
        kernel = self._of(node)
        worker = kernel.workers.pop(node)
        running = worker.running
        kernel.done.update(running)
        if kernel.dealing is not None:
            kernel.dealing.give_back(node, worker.cases[len(running) :])
        self._serve_all(kernel)
        self._tell(self._name_of(node))
        if not worker.is_up:
            raise KeyError(node)
        return running[0] if running else None

    def mark_test_pending(self, item: str) -> None:
        """Raise NotImplementedError: a case runs once (xdist's own scheduler for --dist=each refuses, too)."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        """Raise NotImplementedError: what a worker was sent it keeps."""
        raise NotImplementedError

    def _serve_all(self, kernel: _Kernel) -> None:
        for worker in list(kernel.workers.values()):
            self._serve(kernel, worker)

    def _serve(self, kernel: _Kernel, worker: _Worker) -> None:
        """Send a worker the cases that it is short of; one for which there are none is told to end."""
        if worker.collection is None or worker.node.shutting_down:
            return
        dealing = kernel.dealing
        others = len(kernel.workers) > 1
        useless = worker.retired or not worker.collection or (others and worker.lacks(kernel.collection))
        if dealing is None or kernel.given_up or useless:
            worker.end()
            return
        while not worker.is_ending and (dealing.whole or dealing.is_short(worker.cases)):
            if not (cases := dealing.take(worker.node)):
                self._run_dry(kernel, dealing, worker)
                return
            self._send(dealing, worker, cases)

    def _run_dry(self, kernel: _Kernel, dealing: Dealing, worker: _Worker) -> None:
        """Have a worker end, or run what needs the machine to itself when it is the last one of its kernel."""
        others = [other for other in kernel.workers.values() if other is not worker]
        for other in others:
            if other.collection is None and not other.is_ending:
                other.retired = True
                if self.listener is not None:
                    self.listener.retire(other.node)
        if dealing.waiting_alone:
            if not others:
                self._send(dealing, worker, dealing.take_alone())
            elif all(other.is_ending for other in others):
                return  # it waits until they are gone
        # A worker runs its last case only when it knows that it is the last.
        worker.end()

    def _send(self, dealing: Dealing, worker: _Worker, cases: Sequence[str]) -> None:
        assert worker.collection is not None
        wanted = set(cases)
        # A VM that replaces another may have collected other cases: what it lacks is not run, and the results say so.
        indices = [index for index, case in enumerate(worker.collection) if case in wanted]
        try:
            if indices:
                worker.node.send_runtest_some(indices)
        except OSError:
            # The worker has died, as xdist is about to report.
            worker.retired = True
            dealing.give_back(worker.node, cases)
        else:
            worker.pending += indices

    def _tell(self, kernel: str) -> None:
        if self.listener is not None:
            self.listener.changed(kernel)

    def _of(self, node: Any) -> _Kernel:
        return self._kernels[self._name_of(node)]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Give every kernel all of its own cases as soon as it has collected them.

xdist's `--dist=each` waits until all workers have collected, has them all run what the first collected, and lets a
replaced worker have what was left only if its collection is the same. Kernels are up at different times (some wait for
others to end), and which cases there are depends on the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass
class _Kernel:
    """Hold what became of the cases of one kernel."""

    collection: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)  # ended, or taken down with their VM
    collected: bool = False
    worker: Any = None
    pending: list[int] = field(default_factory=list)  # of the worker's own collection, in the order they run
    worker_collection: list[str] = field(default_factory=list)
    scheduled: bool = False
    given_up: bool = False

    @property
    def left(self) -> list[str]:
        return [case for case in self.collection if case not in self.done]


class KernelScheduling:
    """Implement xdist's `Scheduling`; `name_of` returns the kernel of a worker."""

    def __init__(self, kernels: Sequence[str], *, name_of: Callable[[Any], str]) -> None:
        self._kernels = {name: _Kernel() for name in kernels}
        self._name_of = name_of

    def left(self, kernel: str) -> list[str]:
        """Return the cases of `kernel` that have not run."""
        return self._kernels[kernel].left

    def collected(self, kernel: str) -> bool:
        """Tell whether the cases of `kernel` are known."""
        return self._kernels[kernel].collected

    def give_up(self, kernel: str) -> None:
        """Leave what has not run of `kernel` as it is: its next worker gets nothing to do."""
        self._kernels[kernel].given_up = True

    # What xdist asks for.

    @property
    def nodes(self) -> list[Any]:
        """Return the workers that are up."""
        return [kernel.worker for kernel in self._kernels.values() if kernel.worker is not None]

    @property
    def collection_is_completed(self) -> bool:
        """Tell whether there is anything to schedule: never wait for the others."""
        return True

    @property
    def tests_finished(self) -> bool:
        """Tell whether no kernel has anything left to run."""
        return all(
            not kernel.pending and (kernel.given_up or (kernel.collected and not kernel.left))
            for kernel in self._kernels.values()
        )

    @property
    def has_pending(self) -> bool:
        """Tell whether any case is running or waits its turn."""
        return any(kernel.pending for kernel in self._kernels.values())

    def add_node(self, node: Any) -> None:
        """Take in a worker that is up."""
        self._of(node).worker = node

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Take in what a worker collected: its kernel's cases, if it is the first to say."""
        kernel = self._of(node)
        kernel.worker_collection = list(collection)
        kernel.scheduled = False
        # The last worker of a kernel that was given up has nothing to do, and what it collects is nothing.
        if not kernel.collected and not kernel.given_up:
            kernel.collection = list(collection)
            kernel.collected = True

    def schedule(self) -> None:
        """Send those workers to work that have collected and wait."""
        for kernel in self._kernels.values():
            if kernel.worker is None or kernel.scheduled or not (kernel.collected or kernel.given_up):
                continue
            if not kernel.given_up:
                left = set(kernel.left)
                kernel.pending = [index for index, case in enumerate(kernel.worker_collection) if case in left]
            kernel.scheduled = True
            try:
                if kernel.pending:
                    kernel.worker.send_runtest_some(kernel.pending)
            except OSError:
                # It died after it had collected, which xdist is about to hear: no case had begun.
                kernel.pending = []
            # A worker runs its last case only when it knows that it is the last.
            kernel.worker.shutdown()

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Take note that a worker is through with a case."""
        kernel = self._of(node)
        kernel.pending.remove(item_index)
        kernel.done.add(kernel.worker_collection[item_index])

    def remove_node(self, node: Any) -> str | None:
        """Forget a worker and return the case that it took down with it, if it was running one.

        Raises KeyError if the worker was never up.
        """
        kernel = self._of(node)
        if kernel.worker is not node:
            raise KeyError(node)
        kernel.worker = None
        crashed = kernel.worker_collection[kernel.pending[0]] if kernel.pending else None
        kernel.pending = []
        if crashed is not None:
            kernel.done.add(crashed)
        return crashed

    def mark_test_pending(self, item: str) -> None:
        """Refuse to run a case again (no other scheduler of xdist's that runs cases everywhere can either)."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        """Refuse to take cases from a worker: each kernel runs its own."""
        raise NotImplementedError

    def _of(self, node: Any) -> _Kernel:
        return self._kernels[self._name_of(node)]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Give each kernel its cases as soon as its worker has collected them.

xdist's `--dist=each` waits until all workers have collected, and has all of them run the first one's cases; a worker
that replaces another gets the rest only if it collected the same. But kernels boot at different times (some wait for
others to end), and the cases depend on the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass
class _Kernel:
    """The cases of one kernel, and its worker."""

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
    """xdist's `Scheduling` protocol; `name_of` returns the kernel of a worker."""

    def __init__(self, kernels: Sequence[str], *, name_of: Callable[[Any], str]) -> None:
        self._kernels = {name: _Kernel() for name in kernels}
        self._name_of = name_of

    def left(self, kernel: str) -> list[str]:
        """Return the cases of `kernel` that have not run."""
        return self._kernels[kernel].left

    def collected(self, kernel: str) -> bool:
        """Return whether the cases of `kernel` are known."""
        return self._kernels[kernel].collected

    def give_up(self, kernel: str) -> None:
        """Run no more cases of `kernel`: its next worker gets none."""
        self._kernels[kernel].given_up = True

    # What xdist asks for.

    @property
    def nodes(self) -> list[Any]:
        """Return the workers that are up."""
        return [kernel.worker for kernel in self._kernels.values() if kernel.worker is not None]

    @property
    def collection_is_completed(self) -> bool:
        """Return True: no kernel waits for the others."""
        return True

    @property
    def tests_finished(self) -> bool:
        """Return whether all kernels have run their cases."""
        return all(
            not kernel.pending and (kernel.given_up or (kernel.collected and not kernel.left))
            for kernel in self._kernels.values()
        )

    @property
    def has_pending(self) -> bool:
        """Return whether a case is running or waits to run."""
        return any(kernel.pending for kernel in self._kernels.values())

    def add_node(self, node: Any) -> None:
        """Add a worker that is up."""
        self._of(node).worker = node

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Record a worker's collection; the first one of a kernel is the kernel's."""
        kernel = self._of(node)
        kernel.worker_collection = list(collection)
        kernel.scheduled = False
        # The last worker of a kernel that was given up has nothing to do, and what it collects is nothing.
        if not kernel.collected and not kernel.given_up:
            kernel.collection = list(collection)
            kernel.collected = True

    def schedule(self) -> None:
        """Send the workers that have collected and wait their cases."""
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
                # The worker died after it had collected, as xdist is about to report: no case had begun.
                kernel.pending = []
            # A worker runs its last case only when it knows that it is the last.
            kernel.worker.shutdown()

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Record that a worker has finished a case."""
        kernel = self._of(node)
        kernel.pending.remove(item_index)
        kernel.done.add(kernel.worker_collection[item_index])

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker; return the case that it was running, None if it was running none.

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
        """Raise NotImplementedError: a case runs once (xdist's own scheduler for --dist=each refuses, too)."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        """Raise NotImplementedError: each kernel runs its own cases."""
        raise NotImplementedError

    def _of(self, node: Any) -> _Kernel:
        return self._kernels[self._name_of(node)]

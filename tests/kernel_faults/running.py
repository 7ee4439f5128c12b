# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the suite under each fault, in as many VMs as are wanted, and say what noticed it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .guests import Done, Guest, LostError
from .ordering import stages
from .state import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .guests import Manner
    from .reach import Reach
    from .table import Fault

NO_FAULT = "(none)"
"""The name under which the run without a fault is remembered: its `case` has the ids that fail, one a line."""

_TRIES = 2  # of a case that noticed, before it is called a race or not

_STAGES = 3

_OUTCOMES = {"failed": Outcome.FAILED, "splat": Outcome.SPLAT, "hang": Outcome.HANG, "died": Outcome.HANG}


@dataclass
class _Task:
    fault: Fault
    stage: int = 0  # that is run next (`ordering.stages`); _STAGES: none is left
    spent: float = 0.0
    suspects: list[str] = field(default_factory=list)  # cases that noticed in a VM that may not have been clean
    noticed: tuple[Done, str] | None = None  # by a case that failed afterwards with no fault on as well
    races: dict[str, str] = field(default_factory=dict)  # cases that noticed, and not each time, and what they said

    @property
    def is_done(self) -> bool:
        return self.stage >= _STAGES


class _Dirty(Exception):  # noqa: N818  # nothing is wrong: another VM is wanted
    """The kernel is not what it was: another VM is wanted."""


class Run:
    """One run; `work` is what each VM's thread does.

    With `debugging` a case that notices is not asked to notice again: that of a race may not.
    """

    def __init__(
        self,
        kernel: Path,
        faults: Sequence[Fault],
        *,
        image: str,
        before: Mapping[str, Result],
        excluded: frozenset[str] | None,
        quick: bool,
        debugging: bool,
        manner: Manner,
        reach: Reach,
        record: Callable[[Result], None],
        learn: Callable[[tuple[dict[str, Any], ...], dict[int, str]], Reach],
        tell: Callable[[str], None],
    ) -> None:
        self._kernel, self._image, self._before = kernel, image, before
        self._reach = reach
        self._record, self._learn, self._tell = record, learn, tell
        self._tasks = deque(_Task(fault) for fault in faults)
        self._excluded = frozenset() if quick else excluded
        self._quick = quick
        self._debugging, self._manner = debugging, manner
        self._lock = threading.Lock()
        self._count, self._total = 0, len(faults)
        self._guests: set[Guest] = set()
        self.failure: BaseException | None = None

    def stop(self, why: BaseException) -> None:
        """Have all VMs end: that of a fault in a VM raises, and the fault is tried by the next run."""
        with self._lock:
            self.failure = self.failure or why
            guests = list(self._guests)
        for guest in guests:
            guest.end()

    def work(self) -> None:
        """Take faults until none is left; called in a thread for each VM."""
        lost = 0
        while self._tasks and self.failure is None:
            try:
                guest = Guest(self._kernel, self._manner)
                self._guests.add(guest)  # before it is up: an interruption ends it then as well
                try:
                    with guest:
                        lost = 0
                        self._serve(guest)
                finally:
                    self._guests.discard(guest)
            except _Dirty:
                continue
            except LostError as error:
                lost += 1
                self._tell(f"a VM did not come up: {error}")
                if lost == 3:
                    self.failure = error
            except BaseException as error:  # the thread's: the run raises it
                self.failure = error

    def _serve(self, guest: Guest) -> None:
        with self._lock:
            if self._excluded is None:
                self._excluded = self._run_without_fault(guest)
        clean = True
        while self.failure is None and (task := self._take()):
            try:
                self._try(guest, task, clean=clean)
            except BaseException:
                if not task.is_done and task not in self._tasks:
                    self._tasks.appendleft(task)
                raise
            clean = False

    def _run_without_fault(self, guest: Guest) -> frozenset[str]:
        """Return the cases that fail on the kernel with no fault on."""
        self._tell(f"running {len(guest.cases)} cases with no fault on")
        left, failures, reached, spent = list(range(len(guest.cases))), list[int](), list[dict[str, Any]](), 0.0
        while left:
            done = guest.run(0, left, stop=False, reach=True)
            failures += done.failures
            reached += done.reached
            spent += done.seconds
            if done.outcome == "passed":
                break
            assert done.case is not None
            self._tell(f"with no fault on: {guest.cases[done.case].id}: {done.outcome}, {done.why}")
            failures.append(done.case)
            left = left[left.index(done.case) + 1 :]
        self._reach = self._learn(tuple(reached), {place: case.id for place, case in enumerate(guest.cases)})
        failing = [guest.cases[place].id for place in failures]
        self._tell(f"with no fault on: {len(failing)} cases fail, {spent:.0f} s")
        self._record(
            Result(
                fault=NO_FAULT,
                digest=self._image,
                release=guest.release,
                outcome=Outcome.SURVIVED,
                case="\n".join(failing),
                seconds=round(spent, 1),
            )
        )
        return frozenset(failing)

    def _take(self) -> _Task | None:
        """Return the next task, those first that have run the least."""
        with self._lock:
            if not self._tasks:
                return None
            task = min(self._tasks, key=lambda task: task.stage)
            self._tasks.remove(task)
            return task

    def _try(self, guest: Guest, task: _Task, *, clean: bool) -> None:
        """Run one stage of a task; raise _Dirty when the VM is not to be used further."""
        if task.noticed is not None:
            if not clean:  # a VM that another fault has met tells nothing of the case alone
                self._tasks.appendleft(task)
                raise _Dirty
            (done, case), task.noticed = task.noticed, None
            self._compare(guest, task, done, case)
            return
        try:
            stage = self._stage(guest, task)
            done = guest.run(task.fault.number, stage) if stage else Done(outcome="passed", seconds=0)
        except LostError as error:
            if self.failure is not None:
                raise
            self._lost(guest, task, error, clean=clean)
            raise _Dirty from None
        task.spent += done.seconds
        if done.outcome == "passed":
            task.stage += 1
            self._went_by(guest, task)
        else:
            self._noticed(guest, task, done, clean=clean)

    def _compare(self, guest: Guest, task: _Task, done: Done, case: str) -> None:
        """Settle a task whose case noticed, by that case with no fault on."""
        assert done.case is not None
        if guest.run(0, [done.case]).outcome == "passed":
            self._settle(guest, task, _OUTCOMES[done.outcome], case=case, why=done.why)
        else:
            self._settle(guest, task, Outcome.OPEN, why=f"{case} fails with no fault on as well")

    def _stage(self, guest: Guest, task: _Task) -> Sequence[int]:
        """Return the cases of the stage that a task is at, by their places."""
        before = self._before.get(task.fault.name)
        killers = [*task.suspects, *([before.case] if before and before.case else [])]
        assert self._excluded is not None
        excluded = {*self._excluded, *task.races}
        return stages(task.fault, guest.cases, killers=killers, excluded=excluded, reach=self._reach)[task.stage]

    def _went_by(self, guest: Guest, task: _Task) -> None:
        """Settle a task whose stage passed, if it was the last; else have the next one wait for its turn."""
        if self._quick:
            self._settle(guest, task, Outcome.OPEN, why="the cases of its promises do not notice, or not each time")
        elif not task.is_done:
            self._tasks.append(task)
        elif task.races:
            case, why = next(iter(task.races.items()))
            self._settle(guest, task, Outcome.RACE, case=case, why=why)
        else:
            count = sum(self._reach.meets(case.id, task.fault) for case in guest.cases)
            self._settle(guest, task, Outcome.SURVIVED, why=f"{count} cases come to it")

    def _lost(self, guest: Guest, task: _Task, error: LostError, *, clean: bool) -> None:
        case = guest.cases[error.case].id if error.case is not None else ""
        if clean or not case:
            outcome = Outcome.HANG if error.hang else Outcome.PANIC
            self._settle(guest, task, outcome, case=case, why=str(error))
        else:  # an earlier fault may have left the cause behind
            task.suspects.insert(0, case)
            task.stage = 0
            self._tasks.appendleft(task)

    def _noticed(self, guest: Guest, task: _Task, done: Done, *, clean: bool) -> None:
        """Settle a task whose case noticed, if the fault was what it noticed, and would be again."""
        assert done.case is not None
        case, outcome = guest.cases[done.case].id, _OUTCOMES[done.outcome]
        if self._debugging:  # a debug kernel tells of a thing once, and is another kernel from then on
            self._settle(guest, task, outcome, case=case, why=done.why)
            raise _Dirty
        try:
            again = [guest.run(task.fault.number, [done.case]).outcome != "passed" for _ in range(_TRIES - 1)]
            healthy = guest.run(0, [done.case]).outcome == "passed"
        except LostError as error:
            if self.failure is not None:
                raise
            self._settle(guest, task, outcome, case=case, why=f"{done.why}, then {error}")
            raise _Dirty from None
        if not healthy and not clean:
            task.suspects.insert(0, case)
            task.stage = 0
            self._tasks.appendleft(task)
            raise _Dirty
        if not healthy and self._quick:
            # It may fail without a fault as well: nobody looked. The next VM, which no fault has met, tells.
            task.noticed = done, case
            self._tasks.appendleft(task)
            raise _Dirty
        if healthy and not all(again):
            # Another case may notice each time.
            task.races[case] = done.why
            self._tasks.appendleft(task)
            return
        self._settle(guest, task, outcome, case=case, why=done.why)
        if not healthy:
            raise _Dirty

    def _settle(self, guest: Guest, task: _Task, outcome: Outcome, *, case: str = "", why: str = "") -> None:
        task.stage = _STAGES
        result = Result(
            fault=task.fault.name,
            digest=task.fault.digest,
            release=guest.release,
            outcome=outcome,
            case=case,
            why=why,
            seconds=round(task.spent, 1),
        )
        with self._lock:
            self._count += 1
            self._record(replace(result))
            by = f" by {case}" if case else ""
            self._tell(f"{self._count}/{self._total} {task.fault.name}: {outcome}{by}, {result.seconds} s")

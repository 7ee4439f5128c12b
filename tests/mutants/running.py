# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Try the mutants, several at once, each in a copy of the project of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import trees
from .serving import VARIABLE
from .state import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .mutant import Mutant
    from .reach import Case, Reach

_STAGES = (6, 60)
"""How many cases run before the next mutant is taken, at first and then; all others come last."""
_PATIENCE = 20.0
"""Seconds for what is not a case: compiling, waiting for a core."""
_PATIENCE_WITHOUT_COMPILER = 6.0
"""Seconds for that where no program is compiled."""
_PATIENCE_WITH_PYTEST = 60.0
"""Seconds for that and starting pytest."""
_SLOWER = 6
"""How many times as long as without a mutant cases may take, on a machine that is as busy as ever."""
_NEIGHBOURS = 4
"""Cases that noticed mutants of the same file, which are tried first."""


class RunError(Exception):
    """A run cannot go on; the message says why."""


@dataclass
class _Task:
    mutant: Mutant
    stage: int = 0
    tried: int = 0
    seconds: float = 0.0
    original: str = ""  # what the file has without the mutant
    cases: list[Case] | None = None  # that are left, in their order
    race: str = ""  # a case that failed, and not again, and what it said


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """How a run of cases ended."""

    outcome: Outcome | None  # None: all passed
    case: str = ""
    why: str = ""


@dataclass
class Shared:
    """What the workers of a run share."""

    root: Path
    work: Path
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    """Of cases and of tests."""
    objects: Mapping[str, str]
    """The compiled programs of the project as it is, by name."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    failure: BaseException | None = None


class Worker:
    """A copy of the project, and the two processes that run cases in it, each case in a fork.

    One has imported nothing of the project: for what runs at import. The other, which starts when it is first needed,
    has collected the cases.
    """

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared = shared
        self.tree = shared.work / f"tree-{name}"
        self._plan, self._answer = shared.work / f"plan-{name}.json", shared.work / f"answer-{name}.json"
        self.log = shared.work / f"log-{name}"
        self._cache = shared.work / f"cache-{name}"
        trees.copy_project(shared.root, self.tree)
        self._fresh = _Server(["-m", "tests.mutants.zygote"], tree=self.tree, log=self.log)
        self._warm: _Server | None = None
        self._is_spoilt = False

    def close(self) -> None:
        """End the processes, and what they run."""
        servers = [server for server in (self._fresh, self._warm) if server is not None]
        for server in servers:
            server.terminate()  # all, before any is waited for: Ctrl-C may interrupt that
        for server in servers:
            server.close()

    def learn(self, file: str, *, seconds: float) -> dict[str, Any]:
        """Run the cases of a file with no mutant; return how pytest ended, with what they came to as `said`."""
        self._write_plan(cases=None, variants=[], objects=None, reach=True)
        return self._ask(self._fresh, seconds=seconds, reach=True, arguments=[*self._shared.arguments, file])

    def run(
        self, mutant: Mutant, original: str, cases: Sequence[Case], variants: Sequence[str], *, seconds: float
    ) -> dict[str, Any]:
        """Run cases on a mutant that is in the tree; return how the run ended, with what was written down as `said`."""
        names = [case.id for case in cases]
        cache = str(self._cache) if variants else ""
        if mutant.edit.at_import:
            self._write_plan(cases=names, variants=variants, objects=self._shared.objects, reach=False)
            files = sorted({name.partition("::")[0] for name in names})
            arguments = [*self._shared.arguments, "-x", *files]
            return self._ask(self._fresh, seconds=seconds, reach=False, arguments=arguments, cache=cache)
        assert self._warm is not None, "it was prepared"
        needed = {case.id: sorted(case.variants) for case in cases}
        self._write_plan(cases=names, variants=variants, needed=needed)
        return self._ask(self._warm, seconds=seconds, file=mutant.file, original=original, cache=cache)

    def prepare(self) -> None:
        """Have the process ready that has collected the cases: from the tree without a mutant."""
        if self._is_spoilt and self._warm is not None:
            self._warm.close()
            self._warm = None
        if self._warm is None:
            self._is_spoilt = False
            self._write_plan(cases=None, variants=[], objects=self._shared.objects, reach=False, warm=True)
            arguments = [*self._shared.arguments, "-p", "tests.mutants.warm", "-s", *self._shared.files]
            environment = {"MUTANTS_PLAN": str(self._plan)}
            self._warm = _Server(["-m", "pytest", *arguments], tree=self.tree, log=self.log, environment=environment)
            self._warm.wait()

    def spoil(self) -> None:
        """Have another process take its place before the next mutant: a killed fork may have left anything behind."""
        self._is_spoilt = True

    def _write_plan(self, *, warm: bool = False, **plan: Any) -> None:
        self._plan.write_text(json.dumps({**plan, "answer": str(self._answer), "warm": warm}))

    def _ask(self, server: _Server, *, cache: str = "", **job: Any) -> dict[str, Any]:
        self._answer.unlink(missing_ok=True)
        answer = server.ask({**job, "plan": str(self._plan), "log": str(self.log), "cache": cache})
        answer["said"] = json.loads(self._answer.read_text()) if self._answer.exists() else {}
        return answer


class _Server:
    """A process of tests.mutants.serving."""

    def __init__(
        self, arguments: Sequence[str], *, tree: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        jobs, self._jobs = os.pipe()
        self._answers, answers = os.pipe()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=tree,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(jobs, answers),
                env={**os.environ, **(environment or {}), VARIABLE: f"{jobs},{answers}"},
                start_new_session=True,
            )
        os.close(jobs)
        os.close(answers)
        self._lines = os.fdopen(self._answers, "rb")
        self._is_ready = False

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Have a job done; return how it ended. Raises RunError if the process did."""
        self.wait()
        os.write(self._jobs, (json.dumps(job) + "\n").encode())
        return self._read()

    def wait(self) -> None:
        """Wait until the process takes jobs. Raises RunError if it does not come to that."""
        if not self._is_ready:
            self._read()
            self._is_ready = True

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise RunError(f"the process that runs cases ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def terminate(self) -> None:
        """Have the process end, and what it runs."""
        self._process.terminate()

    def close(self) -> None:
        """End the process, and what it runs."""
        self.terminate()
        self._process.wait()
        self._lines.close()
        os.close(self._jobs)


class Run:
    """The mutants that are left, for as many workers as are wanted."""

    def __init__(
        self,
        shared: Shared,
        mutants: Sequence[Mutant],
        reach: Reach,
        *,
        before: Mapping[str, Result],
        record: Callable[[Result], None],
        tell: Callable[[str], None],
    ) -> None:
        self._shared, self._reach, self._record, self._tell = shared, reach, record, tell
        # Those that need a pytest of their own come last: each takes as long as many others.
        tried = sorted(map(reach.as_run, mutants), key=lambda one: one.edit.at_import)
        self._tasks = deque(_Task(one) for one in tried)
        self._before = before
        self._noticed: dict[str, Counter[str]] = {}
        for result in before.values():
            if result.outcome.is_kill and result.case:
                self._noticed.setdefault(result.mutant.rpartition(":")[0], Counter())[result.case] += 1
        self._count, self._total, self._number = 0, len(mutants), 0

    def work(self, worker: Worker) -> None:
        """Take mutants until none is left; called in a thread for each worker."""
        try:
            while self._shared.failure is None and (task := self._take()):
                self._try(worker, task)
        except BaseException as error:  # the thread's: the run raises it
            self._shared.failure = self._shared.failure or error

    def _take(self) -> _Task | None:
        with self._shared.lock:
            if not self._tasks:
                return None
            task = min(self._tasks, key=lambda task: (task.mutant.edit.at_import, task.stage))
            self._tasks.remove(task)
            return task

    def _try(self, worker: Worker, task: _Task) -> None:
        """Run one stage of a mutant."""
        mutant = task.mutant
        if task.cases is None:
            if not _is_code(mutant, (worker.tree / mutant.file).read_bytes()):
                self._settle(task, Outcome.BROKEN)
                return
            task.cases = self._reach.order(mutant, first=self._first(mutant))
        count = _STAGES[task.stage] if task.stage < len(_STAGES) else len(task.cases)
        now, task.cases = task.cases[:count], task.cases[count:]
        with self._shared.lock:
            self._number += 1
            number = self._number
        if not mutant.edit.at_import:
            worker.prepare()
        task.original = (worker.tree / mutant.file).read_text()
        with trees.planted(worker.tree, mutant, number=number):
            ending = self._run_cases(worker, task, now) if now else _Ending(outcome=None)
            if ending.outcome is not None:
                self._settle(task, ending.outcome, ending.case, ending.why)
                return
            task.stage += 1
            if task.cases:
                with self._shared.lock:
                    self._tasks.append(task)
            elif task.race:
                self._settle(task, Outcome.RACE, *task.race.split(" ", 1))
            elif self._is_same(worker, mutant):
                self._settle(task, Outcome.SAME)
            else:
                self._settle(task, Outcome.SURVIVED)

    def _is_same(self, worker: Worker, mutant: Mutant) -> bool:
        if mutant.file.endswith(".py") or mutant.text.startswith("#define"):
            return False
        return trees.makes_the_same(worker.tree, self._shared.root, self._reach.variants(mutant))

    def _first(self, mutant: Mutant) -> list[str]:
        """Return the cases that noticed it before, and those that noticed most of its neighbours."""
        before = self._before.get(mutant.digest)
        with self._shared.lock:
            near = [name for name, _ in self._noticed.get(mutant.file, Counter()).most_common(_NEIGHBOURS)]
        return [*([before.case] if before and before.case else []), *near]

    def _run_cases(self, worker: Worker, task: _Task, cases: Sequence[Case]) -> _Ending:
        """Run cases; one that did not end in its time gets more of it, alone, before it is said not to end."""
        ending = self._run_once(worker, task, cases)
        if ending.outcome is Outcome.LATE and not ending.case:  # no case has begun
            ending = self._run_once(worker, task, cases, patience=5)
            if ending.outcome is Outcome.LATE and not ending.case:
                raise RunError(f"{task.mutant.name}: no case has begun, this machine is too busy")
        if ending.outcome is not Outcome.LATE:
            return ending
        place = next(at for at, case in enumerate(cases) if case.id == ending.case)
        ending = self._run_once(worker, task, cases[place : place + 1], patience=3)
        if ending.outcome is None and (left := cases[place + 1 :]):
            return self._run_cases(worker, task, left)
        return ending

    def _run_once(self, worker: Worker, task: _Task, cases: Sequence[Case], *, patience: int = 1) -> _Ending:
        changed = self._reach.variants(task.mutant)
        start = _PATIENCE if changed else _PATIENCE_WITHOUT_COMPILER
        if task.mutant.edit.at_import:
            start = _PATIENCE_WITH_PYTEST
        answer = worker.run(
            task.mutant,
            task.original,
            cases,
            sorted(changed & {name for case in cases for name in case.variants}),
            seconds=patience * (start + _SLOWER * sum(case.seconds for case in cases)),
        )
        task.seconds += answer["seconds"]
        said = answer["said"]
        case = said.get("case", "")
        task.tried += said.get("passed", 0) + bool(case)
        task.race = task.race or said.get("race", "")
        if answer["late"] or "signal" in answer:
            worker.spoil()
        if answer["late"]:
            return _Ending(outcome=Outcome.LATE, case=case, why="it did not end")
        if "signal" in answer:
            return _Ending(outcome=Outcome.DIED, case=case, why=f"signal {answer['signal']}")
        if answer["status"] == 0:
            return _Ending(outcome=None)
        text = worker.log.read_text(errors="replace")
        if "clang cannot compile" in text:
            return _Ending(outcome=Outcome.BROKEN)
        if answer["status"] == 1 and said.get("why"):
            return _Ending(outcome=Outcome.FAILED, case=case, why=said["why"])
        if answer["status"] == 5:
            raise RunError(f"{task.mutant.name}: none of {len(cases)} cases was found:\n{text[-2000:]}")
        # Not even the cases could be collected, or the session ended.
        return _Ending(outcome=Outcome.DIED, why=f"pytest ended with status {answer['status']}: {_last(text)}")

    def _settle(self, task: _Task, outcome: Outcome, case: str = "", why: str = "") -> None:
        mutant = task.mutant
        result = Result(
            digest=mutant.digest,
            mutant=mutant.name,
            change=mutant.change,
            outcome=outcome,
            case=case,
            why=why,
            tried=task.tried,
            seconds=round(task.seconds, 1),
        )
        with self._shared.lock:
            self._count += 1
            if outcome.is_kill and case:
                self._noticed.setdefault(mutant.file, Counter())[case] += 1
            self._record(result)
            by = f" by {case}" if case else f": {why}" if why else ""
            self._tell(
                f"{self._count}/{self._total} {mutant.name} {mutant.change}: {outcome}{by}, {result.seconds:.1f} s"
            )


def _is_code(mutant: Mutant, content: bytes) -> bool:
    """Return whether a module is still one of Python; on C the compiler has its say."""
    if mutant.file.endswith(".py"):
        try:
            ast.parse(mutant.apply(content))
        except SyntaxError:
            return False
    return True


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")[:200]

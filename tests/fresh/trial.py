# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the root of a distribution and run the steps in it, one after the other, each from what the last one left."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import own_kernel, root
from .command import inside, isolated
from .live import clock
from .report import Outcome, RootResult, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .command import Done
    from .live import Line
    from .network import Network
    from .root import Distribution
    from .steps import Step

CLONE = "reuseport-harness"
"""The directory of the clone in a user's home."""


class RootError(Exception):
    """A root that cannot be made or prepared: the reason, and where the output is."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A distribution, the steps, and where everything goes."""

    distribution: Distribution
    steps: Sequence[Step]
    network: Network
    project: Path  # a git bundle of the checkout
    root: Path  # the directory to make
    logs: Path  # an existing directory for the output of each step
    line: Line

    def run(self) -> RootResult:
        """Make the root and run the steps; a step that fails does not keep the others from running."""
        try:
            made = self._make()
        except RootError as error:
            missing = tuple(StepResult.not_run(step) for step in self.steps)
            return RootResult(self.distribution, seconds=0, packages=(), disk=0, error=str(error), steps=missing)
        packages = root.installed(self.root)
        disk = root.disk_use(self.root)
        results = tuple(map(self._step, self.steps))
        return RootResult(
            self.distribution, seconds=made.seconds, packages=tuple(packages), disk=disk, error="", steps=results
        )

    def _make(self) -> Done:
        command = root.debootstrap_command(self.distribution, self.root, self.network)
        log = self._log("root")
        done = isolated(command, log=log, progress=self._shown("minimal installation"))
        if done.status:
            raise RootError(f"mmdebstrap ended with status {done.status}: {log}")
        root.settle(self.root, self.network, project=self.project)
        self._prepare(["useradd", "--create-home", "--shell", "/bin/bash", root.NEWCOMER])
        for user in dict.fromkeys(step.user for step in self.steps):
            self._prepare(["git", "clone", "--quiet", "/srv/project.bundle", CLONE], user=user)
        return done

    def _step(self, step: Step) -> StepResult:
        result = self._result(step)
        ended = f"{result.described}, {clock(result.seconds)}"
        self.line.say(f"{self.distribution.name}: {step.typed} ({step.user}): {ended}")
        return result

    def _result(self, step: Step) -> StepResult:
        log = self._log(step.name)
        before = root.installed(self.root)
        try:
            if step.packages:
                self._prepare(["apt-get", "update", "-q"])
                self._prepare(["apt-get", "install", "-qy", "--no-install-recommends", *step.packages])
            if step.runs_own_kernel:
                own_kernel.pretend(self.root)
        except (RootError, own_kernel.OwnKernelError) as error:
            log.write_text(f"{error}\n")
            return StepResult(step, outcome=Outcome.NOT_RUN, log=log, why=str(error))
        clone = f"{home(step.user)}/{CLONE}"
        done = self._inside(step.command, user=step.user, log=log, what=f"{step.typed} ({step.user})", directory=clone)
        self._keep_results(step)
        return StepResult.of(
            step, done, log=log, packages=tuple(root.installed(self.root) - before), disk=root.disk_use(self.root)
        )

    def _prepare(self, command: Sequence[str], *, user: str = "root") -> None:
        """Do what is not under test, RootError when it fails."""
        log = self._log("root")
        done = self._inside(command, user=user, log=log, what=" ".join(command[:2]), directory=home(user))
        if done.status:
            raise RootError(f"{' '.join(command)} ended with status {done.status}: {log}")

    def _inside(self, command: Sequence[str], *, user: str, log: Path, what: str, directory: str) -> Done:
        return inside(
            self.root,
            command,
            user=user,
            directory=directory,
            variables=self.network.variables,
            log=log,
            progress=self._shown(what),
        )

    def _keep_results(self, step: Step) -> None:
        """Copy the results that the step's run wrote, before its root is removed."""
        found = self.root / f"{home(step.user)}/{CLONE}/results".lstrip("/")
        if found.is_dir():
            shutil.copytree(found, self._log(step.name).with_suffix(""), symlinks=True)
            shutil.rmtree(found)

    def _shown(self, what: str) -> Callable[[str], None]:
        return lambda newest: self.line.show(f"{self.distribution.name}: {what}", newest)

    def _log(self, name: str) -> Path:
        return self.logs / f"{self.distribution.name}-{name.replace(' ', '-')}.log"


def home(user: str) -> str:
    """Return a user's directory in a root."""
    return "/root" if user == "root" else f"/home/{user}"

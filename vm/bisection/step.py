# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Build the commit that is checked out, run the cases on it, and say whether they pass."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.paths import PROJECT
from vm.bisection.record import Judgement
from vm.kernels.local import TREE_IMAGE
from vm.report import results, stories
from vm.report.outcomes import AS_EXPECTED, EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.bisection.record import Record
    from vm.bisection.repository import Commit
    from vm.report.results import CaseResult, KernelResult

LONGEST = 40
"""Lines of a failure's message that are kept."""

_UNTESTABLE = EXIT_STATUS[KernelOutcome.INFRASTRUCTURE]
_FAILS = {
    EXIT_STATUS[outcome]
    for outcome in (
        KernelOutcome.FAILED,
        KernelOutcome.FEATURE_MISSING,
        KernelOutcome.SPLAT,
        KernelOutcome.LOST_OR_HUNG,
    )
}

_TURN = re.compile(r"-?\d+of\d+(?=\])")
"""In the id of a case that is run more than once: which time it was (harness/plugins/repeat.py)."""


class CannotGoOnError(Exception):
    """A bisection has to stop; the message says why, and the commit is not the cause."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What builds and runs: the tree, where it is built, and how the cases are run."""

    tree: Path
    output: Path
    arguments: Sequence[str]  # for pytest
    times: int
    minimise: bool

    def judge(self, commit: Commit, record: Record) -> Judgement:
        """Return what `commit`, which is checked out, comes to. Raises CannotGoOnError."""
        judgement = Judgement(sha=commit.sha, subject=commit.subject, verdict="untestable")
        if not self._build():
            return judgement
        judgement.image = _digest(self.output / TREE_IMAGE)
        if known := record.same_image(judgement.image):
            say(f"{commit}: the same kernel image as {known.sha[:12]}, which {known.verdict}; not run again")
            judgement.verdict, judgement.same_as = known.verdict, known.sha
            return judgement
        status, directory = self._run("--witness=none")
        if status == _UNTESTABLE:
            return judgement
        if status and status not in _FAILS:
            raise CannotGoOnError(f"the run of the cases ended with {status}: see above and docs/exit-codes.md")
        judgement.verdict = "fails" if status else "passes"
        if directory is not None:
            judgement.results = str(directory)
            with contextlib.suppress(OSError, ValueError):
                _take_in(judgement, results.read(directory).kernels[0])
        return judgement

    def trace(self, judgement: Judgement) -> None:
        """Run the commit that is checked out once more, have failures traced, and take one's story in."""
        if self._build():
            _status, directory = self._run("--witness=failed")
            if directory is not None:
                with contextlib.suppress(OSError, ValueError):
                    judgement.story = _story_among(results.read(directory).kernels[0].cases, directory)

    def _build(self) -> bool:
        """Build what is checked out; tell whether it could be built. Raises CannotGoOnError."""
        minimise = ["--minimise"] if self.minimise else []
        command = [_python(), "-m", "vm", "build", str(self.tree), "--output", str(self.output), *minimise]
        status = subprocess.run(command, cwd=PROJECT, check=False).returncode
        if status not in (0, _UNTESTABLE):
            raise CannotGoOnError(f"the build ended with {status}, and the reason is not the commit: see above")
        return not status

    def _run(self, witness: str) -> tuple[int, Path | None]:
        """Run the cases; return the exit status and the directory of the results."""
        # A line a failure: results/ has them whole.
        command = [_python(), "-m", "pytest", "--vm", f"--kernel={self.output}", "--tb=line", witness]
        command += [f"--times={self.times}"] if self.times > 1 else []
        directory = None
        with subprocess.Popen(
            [*command, *self.arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if found := re.match(r"results: (/.+)$", line):
                    directory = Path(found[1])
        return process.returncode, directory


def say(line: str) -> None:
    """Print a line between those of the build and of pytest."""
    print(f"bisect: {line}", flush=True)


def _python() -> str:
    return os.environ.get("PYTHON") or sys.executable


def _digest(image: Path) -> str:
    try:
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _take_in(judgement: Judgement, kernel: KernelResult) -> None:
    bad = [case for case in kernel.cases if case.outcome not in AS_EXPECTED]
    judgement.failed = dict(Counter(_TURN.sub("", case.id).replace("[]", "") for case in bad))
    if bad:
        judgement.excerpt = _excerpt(bad[0])
    elif kernel.splats:
        judgement.excerpt = kernel.splats[0].excerpt or kernel.splats[0].title
    size = f"{kernel.cpus} CPUs, {kernel.memory} MiB" if kernel.cpus else ""
    judgement.kernel = ", ".join(part for part in (f"Linux {kernel.release}", kernel.accel, size) if part)


def _excerpt(case: CaseResult) -> str:
    """Return the message of a failure without the code around it: pytest has an E before its first line at least."""
    lines = case.detail.splitlines()
    at = next((at for at, line in enumerate(lines) if line.startswith("E ")), None)
    if at is None:
        return case.reason
    said = itertools.takewhile(lambda line: line.startswith(("E ", "   ")), lines[at:])
    return "\n".join(line[1:].removeprefix("   ") for line in itertools.islice(said, LONGEST))


def _story_among(cases: Sequence[CaseResult], directory: Path) -> str:
    """Return the story of a failure, if there is one of a run that failed under trace; else of one that passed then."""
    texts = [stories.read_text(directory / case.story).rstrip() for case in cases if case.story]
    return next((text for text in texts if "failed again" in text), texts[0] if texts else "")

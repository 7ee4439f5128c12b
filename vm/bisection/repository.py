# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read the state of a bisection from its repository, and check commits out: gitrepository-layout(5), git-bisect(1)."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RepositoryError(Exception):
    """git failed; the message is git's own."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit as a summary shows it."""

    sha: str
    subject: str

    def __str__(self) -> str:
        return f'{self.sha[:12]} ("{self.subject}")'


@dataclass(frozen=True, kw_only=True)
class Repository:
    """The repository that is bisected."""

    tree: Path

    def git(self, *arguments: str) -> str:
        """Return what `git *arguments` prints, without the last newline. Raises RepositoryError."""
        done = subprocess.run(
            ["git", "-C", str(self.tree), *arguments], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise RepositoryError(f"git {shlex.join(arguments)} in {self.tree}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def bisection(self) -> Bisection | None:
        """Return the bisection that goes on in this repository; None if none does, or this is no repository."""
        try:
            start, terms = self._file("BISECT_START"), self._file("BISECT_TERMS")
        except (RepositoryError, FileNotFoundError):
            return None
        if not start.exists():
            return None
        # The file names the bad term first, also for a fix: there "bad" is what came later.
        new, old = terms.read_text().split() if terms.exists() else ("bad", "good")
        return Bisection(repository=self, begun=start.stat().st_mtime_ns, old_term=old, new_term=new)

    def commit(self, name: str = "HEAD") -> Commit:
        """Return the commit that `name` means."""
        sha, _, subject = self.git("show", "--no-patch", "--format=%H %s", name).partition(" ")
        return Commit(sha=sha, subject=subject)

    @contextlib.contextmanager
    def checked_out(self, commit: Commit) -> Iterator[None]:
        """Have `commit` checked out for a while, then what was before."""
        before = self.git("rev-parse", "HEAD")
        try:
            self._check_out(commit.sha)
            yield
        finally:
            self._check_out(before)

    def _check_out(self, sha: str) -> None:
        # What is there already is left alone: make would compile files again whose times have changed.
        if self.git("rev-parse", "HEAD") != sha:
            self.git("checkout", "--quiet", "--detach", sha)

    def _file(self, name: str) -> Path:
        return self.tree / self.git("rev-parse", "--git-path", name)

    @property
    def record(self) -> Path:
        """Return the file in which the steps of a bisection are remembered."""
        return self._file("reuseport-bisect.json")


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """A bisection that goes on."""

    repository: Repository
    begun: int
    """When it began, in ns: tells it from others in the same repository."""
    old_term: str
    new_term: str

    def new(self) -> Commit:
        """Return the commit that is known to be new ("bad"). Raises RepositoryError while none is."""
        return self.repository.commit(f"refs/bisect/{self.new_term}")

    def old(self) -> list[Commit]:
        """Return the commits that are known to be old ("good")."""
        return self._marked(self.old_term)

    def left(
        self, *, old: Commit | None = None, new: Commit | None = None, skipped: Commit | None = None
    ) -> tuple[list[str], bool]:
        """Return the SHAs that the first new commit is among, the newest first, and whether all others were skipped.

        One more commit may be said to be old, new or skipped.
        """
        newest = (new or self.new()).sha
        known = [f"^{commit.sha}" for commit in (*self.old(), *([old] if old else []))]
        found = self.repository.git("rev-list", newest, *known, *self._paths()).split() or [newest]
        skips = {commit.sha for commit in (*self._marked("skip"), *([skipped] if skipped else []))}
        return found, all(sha in skips for sha in found if sha != newest)

    def _marked(self, term: str) -> list[Commit]:
        names = self.repository.git("for-each-ref", "--format=%(refname)", f"refs/bisect/{term}-*").split()
        return [self.repository.commit(name) for name in names]

    def _paths(self) -> list[str]:
        """Return the paths that the bisection was told to keep to."""
        file = self.repository.tree / self.repository.git("rev-parse", "--git-path", "BISECT_NAMES")
        words = shlex.split(file.read_text()) if file.exists() else []
        return ["--", *(word for word in words if word != "--")] if words else []

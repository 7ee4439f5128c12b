# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Remember what the steps of a bisection came to, in a file in the repository's git directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.interface.atomic import write_text

if TYPE_CHECKING:
    from pathlib import Path

Verdict = Literal["passes", "fails", "untestable"]


@dataclass(kw_only=True)
class Judgement:
    """The result of one commit."""

    sha: str
    subject: str
    verdict: Verdict
    image: str = ""  # the SHA-256 of its kernel's image
    same_as: str = ""  # the SHA of the commit with the same image, which was run in its place
    failed: dict[str, int] = field(default_factory=dict)  # case to how often it failed
    excerpt: str = ""  # the first failure
    kernel: str = ""  # release, acceleration, size of the VM
    results: str = ""  # the directory of the run
    story: str = ""  # what the witness saw of a failure


@dataclass(kw_only=True)
class Record:
    """The results of a bisection so far."""

    begun: int  # as Bisection has it
    options: list[str]  # of vm/bisect, pytest's among them
    times: int
    find_fix: bool
    ends_checked: bool = False
    judged: list[Judgement] = field(default_factory=list)
    first: str = ""  # the SHA of the commit that was looked for, once it is found
    left: list[str] = field(default_factory=list)  # SHAs it is among, where all that is left was skipped

    def same_image(self, image: str) -> Judgement | None:
        """Return what a commit with this image came to, if one was run."""
        return next((one for one in self.judged if image and one.image == image and not one.same_as), None)

    def of(self, sha: str) -> Judgement | None:
        """Return what a commit came to, if it was judged."""
        return next((one for one in reversed(self.judged) if one.sha == sha), None)


def save(record: Record, path: Path) -> None:
    """Write the record, whole or not at all."""
    write_text(path, json.dumps(asdict(record), indent=1) + "\n")


def load(path: Path) -> Record | None:
    """Return the record at `path`; None if there is none, or one of another version."""
    try:
        data = json.loads(path.read_text())
        return Record(**{**data, "judged": [Judgement(**one) for one in data["judged"]]})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The story of a case: the path of each packet, what could not be seen, and what became of a second run. Pure.

`str()` of a story is its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.interface.sentences import heading, sentence, topic

if TYPE_CHECKING:
    from harness.interface.steps import Start, Step

Phase = Literal["setup", "call", "teardown"]


@dataclass(frozen=True, kw_only=True)
class Path:
    """The path of one packet, or of one migration that no packet set off."""

    start: Start
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        lines = (f"  {topic(step):<9} {''.join(sentence(step))}" for step in self.steps)
        return "\n".join([heading(self.start), *lines])


@dataclass(frozen=True, kw_only=True)
class SecondRun:
    """The outcome of a failed case that was run once more under trace."""

    failed_in: Phase | None
    """The phase that failed; None: the case passed."""
    message: str = ""
    """The first line of the failure."""

    def __str__(self) -> str:
        match self.failed_in:
            case None:
                return "run again under trace, the case passed: the failure is intermittent"
            case "call":
                return f"run again under trace, the case failed again: {self.message}"
            case _:
                return f"run again under trace, the case failed in its {self.failed_in}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Story:
    """The paths in order, with what the witness could not see; or the reason why there is no witness."""

    paths: tuple[Path, ...] = ()
    second_run: SecondRun | None = None
    missing: tuple[str, ...] = ()
    """What this kernel does not let the witness see: "the accept queue (inet_csk_reqsk_queue_add)"."""
    lost: int = 0
    """Events that were overwritten before they were read."""
    unavailable: str | None = None
    """Why there is no witness, and how to get one; nothing was seen then."""

    def __str__(self) -> str:
        if self.unavailable is not None:
            return f"there is no witness: {self.unavailable}"
        head = [str(self.second_run)] if self.second_run is not None else []
        paths = [str(path) for path in self.paths] or ["nothing arrived for UDP or TCP"]
        return "\n".join([*head, *paths, *(f"note: {note}" for note in self.notes())])

    def notes(self) -> list[str]:
        """Return in sentences what the story lacks."""
        notes = [f"this kernel does not let the witness see {what}" for what in self.missing]
        if self.lost:
            notes.append(f"{self.lost} earlier events were overwritten before they were read")
        return notes

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernels of a run came to, read from its results.json: for the commands that compare runs with promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.interface.results_file import load_kernels
from harness.kernel.release import Release, of_uname

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class KernelOutcomes:
    """A kernel of a run that booted."""

    name: str
    release: Release
    outcomes: Mapping[str, str]
    """Of its cases, by their ids."""


def function_of(case: str) -> str:
    """Return the part of a case's id before its parameters: cases/FILE::FUNCTION."""
    return case.partition("[")[0]


def kernels_of(path: Path) -> list[KernelOutcomes]:
    """Return the kernels of a run that booted. Raises OSError, and ValueError for a file without results."""
    try:
        return [
            KernelOutcomes(
                name=kernel["name"],
                release=of_uname(kernel["release"], kernel["version"]),
                outcomes={case["id"]: case["outcome"] for case in kernel["cases"]},
            )
            for kernel in load_kernels(path)
            if kernel["release"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no results: {error!r}") from error

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a case and a kernel can come to, and which exit status says so. docs/exit-codes.md is written from here."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


class CaseOutcome(enum.StrEnum):
    """What a case came to."""

    PASSED = "passed"
    FAILED = "failed"  # also: it made the kernel panic
    SKIPPED = "skipped"
    XFAILED = "xfailed"  # failed as it does on a kernel with a known bug
    XPASSED = "xpassed"  # did not fail although it should have
    FEATURE_MISSING = "feature missing"  # the kernel is new enough to have what the case requires, and has it not
    SPLAT = "splat"  # passed, but the kernel complained on its console meanwhile
    LOST = "lost"  # its VM ended and nothing on the console says why
    HUNG = "hung"  # the kernel or its worker did not move on
    NOT_RUN = "not run"  # its kernel was given up before


AS_EXPECTED = frozenset({CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED})
"""The outcomes of a case that nobody has to look at."""


class KernelOutcome(enum.StrEnum):
    """What a kernel came to, and with it a run: the gravest of its kernels'."""

    PASSED = "passed"
    UNFINISHED = "not finished"  # the run was ended before
    INFRASTRUCTURE = "infrastructure"  # not fetched, not booted, its console not read, or results not written
    FAILED = "failed"
    FEATURE_MISSING = "feature missing"
    SPLAT = "splat"
    LOST_OR_HUNG = "lost or hung"


EXIT_STATUS = {
    # What a kernel did outranks what could not be tried; among what it did, the gravest comes first.
    KernelOutcome.LOST_OR_HUNG: 12,
    KernelOutcome.SPLAT: 11,
    KernelOutcome.FEATURE_MISSING: 10,
    KernelOutcome.FAILED: 1,
    KernelOutcome.INFRASTRUCTURE: 13,
    KernelOutcome.UNFINISHED: 2,
    KernelOutcome.PASSED: 0,
}
"""Exit status by outcome, gravest first. The statuses from 0 to 5 mean what they mean in pytest."""

_OF_CASE = {
    CaseOutcome.FAILED: KernelOutcome.FAILED,
    CaseOutcome.XPASSED: KernelOutcome.FAILED,
    CaseOutcome.FEATURE_MISSING: KernelOutcome.FEATURE_MISSING,
    CaseOutcome.SPLAT: KernelOutcome.SPLAT,
    CaseOutcome.LOST: KernelOutcome.LOST_OR_HUNG,
    CaseOutcome.HUNG: KernelOutcome.LOST_OR_HUNG,
}


def gravest(outcomes: Iterable[KernelOutcome]) -> KernelOutcome:
    """Return the outcome that comes first in EXIT_STATUS; PASSED if there is none."""
    found = set(outcomes)
    return next((outcome for outcome in EXIT_STATUS if outcome in found), KernelOutcome.PASSED)


def kernel_outcome(
    cases: Iterable[CaseOutcome],
    *,
    splats: bool = False,
    lost: bool = False,
    broken: bool = False,
    unfinished: bool = False,
) -> KernelOutcome:
    """Return what a kernel came to.

    `splats`: its console has some; `lost`: a VM of it was lost outside any case, or cases were not run for that;
    `broken`: it could not be fetched or booted, or its console could not be scanned; `unfinished`: not all cases ran
    because the run was ended.
    """
    found = [_OF_CASE[case] for case in cases if case in _OF_CASE]
    found += (
        [KernelOutcome.SPLAT] * splats + [KernelOutcome.LOST_OR_HUNG] * lost + [KernelOutcome.INFRASTRUCTURE] * broken
    )
    found += [KernelOutcome.UNFINISHED] * unfinished
    return gravest(found)


def conclude(outcome: KernelOutcome, pytest_status: int) -> tuple[str, int]:
    """Return what the run came to and its exit status, from what its kernels did and what pytest thinks."""
    if pytest_status in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        return pytest.ExitCode(pytest_status).name.lower().replace("_", " "), int(pytest_status)
    if outcome in (KernelOutcome.PASSED, KernelOutcome.UNFINISHED) and pytest_status:
        # Nothing collected, or a case file that cannot be imported.
        return pytest.ExitCode(pytest_status).name.lower().replace("_", " "), pytest_status
    return str(outcome), EXIT_STATUS[outcome]

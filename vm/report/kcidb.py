# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""KCIDB's reports, schema 5.3 (kcidb-io, kcidb_io/schema/v05_03.py): checkouts, builds, tests, issues, incidents. Pure.

A case that shows a known bug fails there, with an incident of the bug's issue; one that did not run is MISS; what the
machine did, not the kernel, is ERROR.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from vm.report.functions import function_of, parameters_of
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.report.results import CaseResult, KernelResult, RunResult

ORIGIN = "reuseport_harness"
"""Who reports: submitters of their own put their name here."""

STATUS = {
    CaseOutcome.PASSED: "PASS",
    CaseOutcome.FAILED: "FAIL",
    CaseOutcome.SKIPPED: "SKIP",
    CaseOutcome.XFAILED: "FAIL",
    CaseOutcome.XPASSED: "PASS",
    CaseOutcome.FEATURE_MISSING: "FAIL",
    CaseOutcome.SPLAT: "FAIL",
    CaseOutcome.LOST: "ERROR",
    CaseOutcome.HUNG: "FAIL",
    CaseOutcome.NOT_RUN: "MISS",
}

_LOG = 16 << 10
"""Characters of a log's excerpt."""


def to_json(run: RunResult, *, origin: str = ORIGIN) -> str:
    """Return the report of a run, ready to be submitted."""
    return json.dumps(report(run, origin=origin)) + "\n"


def report(run: RunResult, *, origin: str = ORIGIN) -> dict[str, Any]:
    """Return the report of a run as JSON has it."""
    stamp = re.sub(r"\D", "", run.started)[:14]
    tests, incidents = [], []
    for number, kernel in enumerate(run.kernels):
        build = f"{origin}:{stamp}:{number}:{_plain(kernel.name)}"
        tests.append(_boot(kernel, build=build, origin=origin))
        for at, case in enumerate(kernel.cases):
            test = _test(case, id_=f"{build}:{at}", build=build, origin=origin, kernel=kernel)
            tests.append(test)
            incidents += list(_incidents(case, test=test["id"], origin=origin))
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [_checkout(run, kernel, stamp, at, origin) for at, kernel in enumerate(run.kernels)],
        "builds": [_build(kernel, stamp, at, origin) for at, kernel in enumerate(run.kernels)],
        "tests": tests,
        "issues": list(_issues(run, origin=origin)),
        "incidents": incidents,
    }


def _checkout(run: RunResult, kernel: KernelResult, stamp: str, number: int, origin: str) -> dict[str, Any]:
    return {
        "id": f"{origin}:{stamp}:{number}:{_plain(kernel.name)}",
        "origin": origin,
        "git_commit_name": _text(kernel.release or kernel.name),
        "comment": _text(f"{kernel.name} {kernel.version}".strip()),
        "start_time": run.started,
        "valid": True,
    }


def _build(kernel: KernelResult, stamp: str, number: int, origin: str) -> dict[str, Any]:
    """Return the build that ran: it was made elsewhere, so nothing is said of how it went."""
    name = f"{origin}:{stamp}:{number}:{_plain(kernel.name)}"
    details = {"release": kernel.release, "version": kernel.version, "append": kernel.append, "notes": kernel.notes}
    return {
        "id": name,
        "checkout_id": name,
        "origin": origin,
        "comment": _text(kernel.name),
        "architecture": "x86_64",
        "misc": {name: value for name, value in details.items() if value},
    }


def _boot(kernel: KernelResult, *, build: str, origin: str) -> dict[str, Any]:
    """Return a test for the kernel as a whole: its boot, its console, and why it was given up."""
    complaints = [f"{splat.kind}: {splat.title}\n{splat.excerpt}" for splat in kernel.splats]
    if kernel.splats or kernel.outcome is KernelOutcome.LOST_OR_HUNG:
        status = "FAIL"
    else:
        status = "ERROR" if kernel.outcome is KernelOutcome.INFRASTRUCTURE else "PASS"
    test: dict[str, Any] = {
        "id": f"{build}:boot",
        "build_id": build,
        "origin": origin,
        "path": "reuseport.boot",
        "status": status,
        "environment": _environment(kernel),
        "log_excerpt": _text("\n".join([kernel.reason, *complaints]).strip())[-_LOG:],
    }
    if kernel.boot_seconds is not None:
        test["duration"] = kernel.boot_seconds
    return test


def _test(case: CaseResult, *, id_: str, build: str, origin: str, kernel: KernelResult) -> dict[str, Any]:
    test = {
        "id": id_,
        "build_id": build,
        "origin": origin,
        "path": path_of(case.id),
        "status": STATUS[case.outcome],
        "duration": case.seconds,
        "comment": _text(case.id),
        "environment": _environment(kernel),
        "misc": {"outcome": str(case.outcome)},
    }
    if case.reason or case.detail:
        test["log_excerpt"] = _text(case.detail or case.reason)[-_LOG:]
    return test


def _environment(kernel: KernelResult) -> dict[str, Any]:
    how = {"kvm": "QEMU under KVM", "tcg": "QEMU, emulated", "native": "natively"}.get(kernel.accel, "did not boot")
    where = f" on {kernel.machine}" if kernel.machine else ""
    return {"comment": _text(how + where)}


def path_of(case: str) -> str:
    """Return the path of a case: suite, topic, function and parameters, in the characters that a path may have."""
    function = function_of(case).rpartition("::")[2].removeprefix("test_")
    return ".".join(_plain(part) for part in ("reuseport", topic_of(case), function, parameters_of(case)) if part)


def _issues(run: RunResult, *, origin: str) -> Iterator[dict[str, Any]]:
    """Yield the bugs of the ledger that the cases show."""
    bugs = {bug["name"]: bug for kernel in run.kernels for case in kernel.cases for bug in case.bugs}
    for name, bug in bugs.items():
        yield {
            "id": f"{origin}:{_plain(name)}",
            "version": 1,
            "origin": origin,
            "report_subject": _text(bug["subject"]),
            "culprit": {"code": True, "tool": False, "harness": False},
            "comment": _text(f"{name}, mended by {bug['commit'] or 'a commit that no source names'}"),
        }


def _incidents(case: CaseResult, *, test: str, origin: str) -> Iterator[dict[str, Any]]:
    """Yield an incident for each bug that a case showed, or should have shown and did not."""
    if case.outcome not in (CaseOutcome.FAILED, CaseOutcome.XFAILED, CaseOutcome.XPASSED):
        return
    for bug in case.bugs:
        yield {
            "id": f"{test}:{_plain(bug['name'])}",
            "origin": origin,
            "issue_id": f"{origin}:{_plain(bug['name'])}",
            "issue_version": 1,
            "test_id": test,
            "present": case.outcome is not CaseOutcome.XPASSED,
        }


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text) or "_"


def _text(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")

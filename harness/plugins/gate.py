# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Marks by which a case names the features that it requires, the kernel bugs that it shows, the promises it checks.

A kernel too old for a feature skips the case; one that ought to have it fails it. A kernel that is known to have a bug
has to show it: strict xfail, so that a bug that is gone and one that is back are both reported.
"""

from __future__ import annotations

import pytest

from harness.interface.keys import ALONE_MARK, LEDGER, MISSING_FEATURE
from harness.kernel.features import FEATURES, expected, present
from harness.kernel.ledger import State, bugs
from harness.kernel.release import running


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers."""
    config.addinivalue_line(
        "markers", "requires(*features): what the kernel must be able to do (harness/kernel/features.py names them)"
    )
    config.addinivalue_line("markers", "ledger(*bugs): the kernel bugs that a case shows (harness/kernel/ledger.toml)")
    config.addinivalue_line("markers", "race: tries for a while to provoke a race (--race-seconds)")
    config.addinivalue_line(
        "markers", f"{ALONE_MARK}: needs the machine to itself: no other VM of its kernel runs cases"
    )
    config.addinivalue_line("markers", "promise(*ids): the promises of docs/rules.md that a case checks")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Refuse a time in which no race can be provoked."""
    if not config.option.race_seconds > 0:
        raise pytest.UsageError(f"--race-seconds {config.option.race_seconds:g}: a race takes more than 0 seconds")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long races are provoked."""
    parser.getgroup("reuseport").addoption(
        "--race-seconds",
        type=float,
        default=0.3,
        metavar="SECONDS",
        help="how long each case of cases/test_races.py tries to provoke its race (default: 0.3)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a case that names an unknown feature or bug; expect the bugs that this kernel is known to have."""
    for item in items:
        if unknown := [name for name in _required(item) if name not in FEATURES]:
            raise pytest.UsageError(
                f"{item.nodeid} requires {', '.join(unknown)}; harness/kernel/features.py has {', '.join(FEATURES)}"
            )
        for name in _named(item, "ledger"):
            if name not in bugs():
                raise pytest.UsageError(f"{item.nodeid} shows {name}, which harness/kernel/ledger.toml does not have")
            _expect_bug(item, name)


def _expect_bug(item: pytest.Item, name: str) -> None:
    bug, state = bugs()[name], bugs()[name].state(running())
    known = {"name": name, "state": str(state), "commit": bug.commit, "subject": bug.subject}
    item.user_properties.append((LEDGER, known))
    if bug.race or bug.unchecked or state not in {State.AFFECTED, State.UNKNOWN}:
        return
    strict = state is State.AFFECTED
    reason = f"Linux {running()} {'has' if strict else 'may have'} {name}: {bug.subject}"
    item.add_marker(pytest.mark.xfail(strict=strict, reason=reason, raises=AssertionError))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the case below the release that introduced what it requires; fail it where that is missing."""
    for name in _required(item):
        if present(name):
            continue
        feature = FEATURES[name]
        if feature.option:
            pytest.skip(f"Linux {running()} was built without {feature.option}: {feature.summary}")
        if expected(name):
            item.user_properties.append((MISSING_FEATURE, name))
            pytest.fail(
                f"missing feature {name}: Linux {running()} ought to have it since {feature.introduced} "
                f"({feature.summary}), but its probe fails",
                pytrace=False,
            )
        pytest.skip(f"Linux {running()} has no {name}: {feature.summary}, introduced in {feature.introduced}")


def _required(item: pytest.Item) -> list[str]:
    return _named(item, "requires")


def _named(item: pytest.Item, marker: str) -> list[str]:
    return [name for mark in item.iter_markers(marker) for name in mark.args]

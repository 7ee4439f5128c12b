# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Let a case require a feature: a kernel too old for it skips the case, one that ought to have it fails it."""

from __future__ import annotations

import pytest

from harness.features import FEATURES, expected, present
from harness.release import running


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker."""
    config.addinivalue_line(
        "markers", "requires(*features): what the kernel must be able to do (harness/features.py names them)"
    )
    config.addinivalue_line("markers", "ledger(*bugs): the kernel bugs that a case shows (harness/ledger.toml)")
    config.addinivalue_line("markers", "rule(*ids): the promises of docs/rules.md that a case checks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a case that requires what nobody knows."""
    for item in items:
        if unknown := [name for name in _required(item) if name not in FEATURES]:
            raise pytest.UsageError(
                f"{item.nodeid} requires {', '.join(unknown)}; harness/features.py has {', '.join(FEATURES)}"
            )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the case below the release that introduced what it requires; fail it where that is missing."""
    for name in _required(item):
        if present(name):
            continue
        feature = FEATURES[name]
        if expected(name):
            item.user_properties.append(("missing_feature", name))
            pytest.fail(
                f"missing feature {name}: Linux {running()} ought to have it since {feature.introduced} "
                f"({feature.why}), but its probe fails",
                pytrace=False,
            )
        pytest.skip(f"Linux {running()} has no {name}: {feature.why}, introduced in {feature.introduced}")


def _required(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("requires") for name in mark.args]

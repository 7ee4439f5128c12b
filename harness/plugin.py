# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The harness's pytest plugin: load its parts, and end a run early where every case would fail."""

from __future__ import annotations

import pytest

# Here and not in conftest.py, which pytest does not read when cases lie outside this project.
pytest_plugins = [
    f"harness.plugins.{name}"
    for name in (
        "objects",
        "processes",
        "shapes",
        "fixtures",
        "gate",
        "own_program",
        # The next two are imported by the two after them: pytest has to see them first, to rewrite their asserts.
        "campaigns",
        "kept_histories",
        "runs",
        "histories",
        "lives",
        "packets",
        "repeat",
        "exhibits",
        "witness",
        "leaks",
    )
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `tox -e host` needs."""
    parser.getgroup("reuseport").addoption(
        "--where-possible",
        action="store_true",
        help="run the cases if this process may load BPF programs; if not, say why and exit 0",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """End the run before its first case, with the reason, if this process lacks rights or a program is faulty."""
    if session.config.option.collectonly or not any("wire" in _fixtures_of(item) for item in session.items):
        return
    from harness.kernel.preflight import missing_requirement  # noqa: PLC0415
    from harness.plugins.objects import compiled  # noqa: PLC0415  # pytest has to see it first, to rewrite its asserts

    if reason := missing_requirement():
        pytest.exit(reason, returncode=0 if session.config.option.where_possible else pytest.ExitCode.USAGE_ERROR)
    compiled(session.config)


def _fixtures_of(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []

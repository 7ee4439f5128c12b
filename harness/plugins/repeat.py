# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run each case several times: a race does not fail every time."""

from __future__ import annotations

import pytest

_TURN = "turn_of_times"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --times."""
    parser.getgroup("reuseport").addoption(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="run each case N times, as N cases whose ids end in 1ofN to NofN (default: 1)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Refuse a number of runs that is none."""
    if config.option.times < 1:
        raise pytest.UsageError(f"--times {config.option.times}: a case has to run at least once")


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make N cases of one, which differ in nothing but their ids."""
    times = metafunc.config.option.times
    if times > 1:
        metafunc.fixturenames.append(_TURN)
        metafunc.parametrize(_TURN, range(times), ids=[f"{turn}of{times}" for turn in range(1, times + 1)])

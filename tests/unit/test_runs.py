# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tests start is started as from a terminal, whatever started the tests."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from runs import foreground

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def in_background() -> Iterator[None]:
    """Ignore Ctrl-C, as what `sh -c 'tox &'` starts does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_background")
def test_ctrl_c_ends_what_tests_in_the_background_start() -> None:
    with foreground():
        process = subprocess.Popen(["sleep", "600"])
    try:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
    finally:
        process.kill()
        process.wait()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

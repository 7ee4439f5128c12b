# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Say why pytest is ended from within: by pytest.exit() or KeyboardInterrupt, of which xdist tells the status alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

EXIT_REASON = "exit_reason"
"""The key of the reason in the worker's output."""


class ExitReason:
    """The plugin of the worker in a guest."""

    def __init__(self, config: Any) -> None:
        """`config.workeroutput` is what xdist's worker sends at its end."""
        self._config = config

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Have the worker say why."""
        self._config.workeroutput[EXIT_REASON] = str(excinfo.value) or excinfo.typename

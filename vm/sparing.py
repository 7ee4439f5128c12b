# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Spare the worker in a VM, whose every call is slow under emulation, what nobody sees of it.

What leans on the insides of pytest and execnet is here and nowhere else.
"""

from __future__ import annotations

import gc
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest
from _pytest import compat, fixtures
from execnet.gateway_base import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TextIO


class _Outgoing:
    """Stand in for the file that execnet writes to, and flushes after each of the six messages of a case.

    Each flush is a system call, an exit to QEMU and a turn of the processes on the host. What is held leaves when the
    buffer is full, or with the first message after the case.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.held = False

    def flush(self) -> None:
        """Pass on what was written, unless it is to wait."""
        if not self.held:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Sparing:
    """A plugin for the worker in a VM."""

    def __init__(self) -> None:
        self._outgoing = _Outgoing(sys.stdout)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take out the reporter that writes every case to a terminal which a guest does not have."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        for plugin in session.config.pluginmanager.get_plugins():
            if isinstance(getattr(plugin, "channel", None), Channel):
                port = plugin.channel.gateway._io
                port.outfile = self._outgoing = _Outgoing(port.outfile)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Prepare for thousands of cases in a row."""
        _locate_at_once(session.items)
        if not any("caplog" in getattr(item, "fixturenames", ()) for item in session.items):
            # Three handlers that come and go three times a case, for what nobody here logs.
            session.config.pluginmanager.unregister(name="logging-plugin")
        # pytest asks six times a case which conftest.py files are for it.
        session.gethookproxy = lru_cache(maxsize=None)(session.gethookproxy)  # type: ignore[assignment,method-assign]
        _know_the_request()
        # The garbage collector works from here on, and on nothing that is there already.
        gc.freeze()
        gc.enable()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Let the messages of a case leave together, with the one that says that it is complete."""
        self._outgoing.held = True
        try:
            return (yield)
        finally:
            self._outgoing.held = False


def _locate_at_once(items: list[pytest.Item]) -> None:
    """Tell items of one function where they are, which each would ask the file system for."""
    first: dict[tuple[object, str], pytest.Item] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            known = first.setdefault((item.parent, item.originalname), item)
            file, line, name = known.location
            # A cached property, which looks here first.
            vars(item)["location"] = file, line, name.removesuffix(known.name) + item.name


def _know_the_request() -> None:
    """Spare pytest the inspection of `lambda: request`, a new one for each of the three fixtures that a case asks."""
    inspect = compat.getfuncargnames

    def argument_names(function: Callable[..., object], *, name: str = "", cls: type | None = None) -> tuple[str, ...]:
        return () if name == "request" else inspect(function, name=name, cls=cls)

    vars(fixtures)["getfuncargnames"] = argument_names

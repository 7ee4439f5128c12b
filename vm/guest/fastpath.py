# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Spare the worker in a VM, whose every call is slow under emulation, what nobody sees of it.

What leans on the insides of pytest and execnet is here and nowhere else.
"""

from __future__ import annotations

import gc
import traceback
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import pytest
from _pytest import compat, fixtures, skipping
from execnet.gateway_base import Channel

from vm.guest import wire_format

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Messages:
    """Stand in for xdist's way to send a message, which execnet serialises in Python, six of them a case.

    Those of a case leave together, with the one that says that it is complete, as one string of bytes: the relay on
    the host takes it apart (`vm.guest.wire_format`). Each is a turn of the guest, of QEMU and of the host's processes.
    """

    def __init__(self, send: Callable[[object], object]) -> None:
        self._send = send
        self._waiting: list[wire_format.Message] = []
        self.held = False

    def send(self, name: str, **content: object) -> None:
        """Send a message, unless it is to wait."""
        self._waiting.append((name, content))
        if self.held:
            return
        waiting, self._waiting = self._waiting, []
        try:
            self._send(wire_format.pack(waiting))
        except ValueError:  # something is of no built-in type: execnet names it
            for message in waiting:
                self._send(message)


class FastPath:
    """A plugin for the worker in a VM."""

    _messages: Messages | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take out the reporter that writes every case to a terminal which a guest does not have."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        for plugin in session.config.pluginmanager.get_plugins():
            if isinstance(getattr(plugin, "channel", None), Channel):
                self._messages = Messages(plugin.channel.send)
                plugin.sendevent = self._messages.send

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Prepare for thousands of cases in a row."""
        _locate_at_once(session.items)
        _shorten_expected_failures(session.items)
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
        """Have the messages of a case wait for the one that says that it is complete."""
        assert self._messages is not None, "every worker has a channel"
        self._messages.held = True
        try:
            return (yield)
        finally:
            self._messages.held = False


def _locate_at_once(items: list[pytest.Item]) -> None:
    """Tell items of one function where they are, which each would ask the file system for."""
    first: dict[tuple[object, str], pytest.Item] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            known = first.setdefault((item.parent, item.originalname), item)
            file, line, name = known.location
            # A cached property, which looks here first.
            vars(item)["location"] = file, line, name.removesuffix(known.name) + item.name


def _shorten_expected_failures(items: list[pytest.Item]) -> None:
    """Give failures that are expected the traceback that Python prints: for its own pytest parses the whole file."""
    for item in items:
        if item.get_closest_marker("xfail") is not None and not item.config.option.runxfail:
            vars(item)["repr_failure"] = partial(_shortly, item, item.repr_failure)


def _shortly(
    item: pytest.Item, at_length: Callable[..., object], excinfo: pytest.ExceptionInfo[BaseException]
) -> object:
    # None where the mark's condition does not hold.
    expected = item.stash.get(skipping.xfailed_key, None)
    if expected is not None and isinstance(expected.raises, type) and isinstance(excinfo.value, expected.raises):
        return "".join(traceback.format_exception(excinfo.value))
    return at_length(excinfo)


def _know_the_request() -> None:
    """Spare pytest the inspection of `lambda: request`, a new one for each of the three fixtures that a case asks."""
    inspect = compat.getfuncargnames

    def argument_names(function: Callable[..., object], *, name: str = "", cls: type | None = None) -> tuple[str, ...]:
        return () if name == "request" else inspect(function, name=name, cls=cls)

    vars(fixtures)["getfuncargnames"] = argument_names

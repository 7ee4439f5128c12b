# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have the worker in a guest, where every call is slow under emulation, leave out work whose result nobody sees.

This uses parts of pytest and pytest-xdist that are not public, read in pytest 9.2.0 and pytest-xdist 3.8.0. Where one
is not as it was, that work is done as ever. docs/architecture.md has what each of them saves.
"""

from __future__ import annotations

import gc
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import ALONE_MARK
from vm.base.private import is_hidden, part
from vm.guest import wire_format

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Messages:
    """The messages of one case, which leave the guest together, as one string of bytes.

    execnet serialises each of the six in Python, and each passes through the guest, QEMU and the host's processes. The
    relay on the host takes the string apart (`vm.guest.wire_format`).
    """

    def __init__(self, send: Callable[[object], object]) -> None:
        self._send = send
        self._waiting: list[wire_format.Message] = []
        self.held = False
        """Whether messages wait for the last one of their case."""

    def send(self, name: str, **content: object) -> None:
        """Send a message, and those that waited; or have it wait."""
        self._waiting.append((name, content))
        if self.held:
            return
        waiting, self._waiting = self._waiting, []
        try:
            self._send(wire_format.pack(waiting))
        except ValueError:  # a value is of no built-in type: execnet's error names it
            for message in waiting:
                self._send(message)


class FastPath:
    """The plugin of the worker in a guest."""

    _messages: Messages | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Leave out the terminal, which a guest does not have, and collect messages before they are sent."""
        _unregister(session.config, "terminalreporter")
        for plugin in session.config.pluginmanager.get_plugins():
            # xdist.remote.WorkerInteractor
            if part(plugin, "sendevent") is not None and (channel := part(plugin, "channel")) is not None:
                self._messages = Messages(channel.send)
                plugin.sendevent = self._messages.send

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say which cases need the machine to themselves, and prepare for thousands of cases in a row."""
        if self._messages is not None:
            alone = [item.nodeid for item in session.items if item.get_closest_marker(ALONE_MARK)]
            self._messages.send(wire_format.ALONE, cases=alone)
        _share_locations(session.items)
        if not any("caplog" in getattr(item, "fixturenames", ()) for item in session.items):
            # Three handlers are set up and taken down three times a case, and the guest logs nothing.
            _unregister(session.config, "logging-plugin")
        _skip_inspecting_request()
        # `vm.guest.pid1` has switched it off. It leaves alone what was made until now, which all stays.
        gc.freeze()
        gc.enable()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Have the messages of a case wait for the one that says that it is complete."""
        if self._messages is None:
            return (yield)
        self._messages.held = True
        try:
            return (yield)
        finally:
            self._messages.held = False


def _unregister(config: pytest.Config, name: str) -> None:
    if config.pluginmanager.has_plugin(name) and not is_hidden(name):
        config.pluginmanager.unregister(name=name)


def _share_locations(items: list[pytest.Item]) -> None:
    """Give the cases of one function their location, which each would look up in the file system."""
    if not isinstance(part(pytest.Item, "location"), cached_property):
        return
    first: dict[tuple[object, str], pytest.Item] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            known = first.setdefault((item.parent, item.originalname), item)
            file, line, name = known.location
            # A cached property is looked up here first.
            vars(item)["location"] = file, line, name.removesuffix(known.name) + item.name


def _skip_inspecting_request() -> None:
    """Leave out the inspection of `lambda: request`, a new function for each of the three fixtures of a case."""
    inspect: Any = part("_pytest.compat", "getfuncargnames")
    if inspect is None or part("_pytest.fixtures", "getfuncargnames") is not inspect:
        return

    def argument_names(function: Callable[..., object], *, name: str = "", cls: type | None = None) -> tuple[str, ...]:
        return () if name == "request" else inspect(function, name=name, cls=cls)

    from _pytest import fixtures  # noqa: PLC0415  # only where it is as expected

    vars(fixtures)["getfuncargnames"] = argument_names

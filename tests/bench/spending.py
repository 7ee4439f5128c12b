# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A plugin of pytest that says what a run spent its CPU time on; the run prints it as it exits, behind `MARK`.

Each moment counts once: for the innermost of the things below that was going on.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

MARK = "spent "

STARTING, COLLECTING, PYTEST, FIXTURES = "starting, imports", "collecting", "pytest itself, and cases", "other fixtures"
REPORTS, RESULTS = "reports of cases", "results at the end"
LOADING, RESTORING, LEAKS = "loading programs", "putting groups back", "leak checks"
MODEL, SENDING = "deliveries: model, comparison", "deliveries: sending, looking"
DELIVERIES = (MODEL, SENDING)

WRAPPED = (
    ("harness.group.delivery", "Delivery.__call__", MODEL),
    ("harness.group.delivery", "observe", SENDING),
    ("harness.group.delivery", "Delivery.send_many", SENDING),
    ("harness.group.reuseport_group", "ReuseportGroup.restore", RESTORING),
    ("harness.loader.program", "Program.__init__", LOADING),
    ("harness.loader.program", "Program.close", LOADING),
    ("harness.plugins.leaks", "Leaks._note", LEAKS),
    ("harness.plugins.leaks", "Leaks._left", LEAKS),
)
"""Module, function, and what its time is counted as. They are wrapped before the first case."""


class Account:
    """The CPU time of the main thread by what it went to."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._going_on = [STARTING]
        self._last = 0.0  # the interpreter's own start is in what comes first

    @contextmanager
    def counted_as(self, what: str) -> Iterator[None]:
        """Count what happens in the context as `what`, but for contexts within it."""
        self._count()
        self._going_on.append(what)
        try:
            yield
        finally:
            self._count()
            self._going_on.pop()

    def becomes(self, what: str) -> None:
        """Count what happens outside of all contexts as `what` from now on."""
        self._count()
        self._going_on[0] = what

    def close(self) -> dict[str, float]:
        """Return the seconds of all, until now."""
        self._count()
        return self.spent

    def _count(self) -> None:
        now, before = time.thread_time(), self._last
        self._last = now
        what = self._going_on[-1]
        self.spent[what] = self.spent.get(what, 0.0) + now - before


_account = Account()


def counted(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Return a function that does the same, and is counted."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        with _account.counted_as(what):
            return function(*arguments, **named)

    return wrapper


def pytest_configure() -> None:
    """Have the process say at its end what was spent."""
    atexit.register(_say)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Count the collection; what follows is pytest's own."""
    with _account.counted_as(COLLECTING):
        result = yield
    for module, name, what in WRAPPED:
        owner: Any = importlib.import_module(module)
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, counted(getattr(owner, last), what))
    _account.becomes(PYTEST)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Count fixtures, without those that they ask for first."""
    with _account.counted_as(FIXTURES):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    """Count reports."""
    with _account.counted_as(REPORTS):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_logreport() -> Generator[None, object, object]:
    """Count what is made of reports."""
    with _account.counted_as(REPORTS):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish() -> Generator[None, object, object]:
    """Count the results."""
    with _account.counted_as(RESULTS):
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Count what the end of pytest takes as the results, too."""
    _account.becomes(RESULTS)


def _say() -> None:
    print(MARK + json.dumps(_account.close()), file=sys.__stdout__, flush=True)

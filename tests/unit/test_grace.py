# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A change of a map of maps is waited for until it can be seen; what the kernel waits for then, another thread does."""

from __future__ import annotations

import threading
import time

import pytest

from harness.loader import grace


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "grace_periods_are_short", lambda: False)


def others() -> list[threading.Thread]:
    """Return the threads that wait for a grace period."""
    return [one for one in threading.enumerate() if one.name == "grace period"]


def test_the_caller_goes_on_when_the_change_is_seen() -> None:
    seen: list[int] = []
    over = threading.Event()

    def make() -> None:
        time.sleep(0.01)
        seen.append(threading.get_ident())
        over.wait()

    grace.change(make, is_made=lambda: bool(seen))
    assert seen != [threading.get_ident()]
    (waits,) = others()
    over.set()
    waits.join()


def test_a_change_that_nobody_sees_is_waited_for_to_its_end() -> None:
    ended: list[bool] = []

    def make() -> None:
        time.sleep(0.01)
        ended.append(True)

    grace.change(make, is_made=lambda: False)
    assert ended


def test_what_the_kernel_refuses_is_raised() -> None:
    def make() -> None:
        raise OSError(7, "the map is full")

    with pytest.raises(OSError, match="the map is full"):
        grace.change(make, is_made=lambda: False)


def test_a_change_to_what_is_there_already_is_made_at_once_and_its_refusal_raised() -> None:
    """There is nothing to see, and the refusal would come after the caller has gone on."""

    def make() -> None:
        time.sleep(0.01)
        raise OSError(2, "there is none to take out")

    with pytest.raises(OSError, match="none to take out"):
        grace.change(make, is_made=lambda: True)
    assert others() == []


def test_where_grace_periods_are_short_no_other_thread_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "grace_periods_are_short", lambda: True)
    made: list[int] = []
    grace.change(lambda: made.append(threading.get_ident()), is_made=lambda: bool(made))
    assert made == [threading.get_ident()]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What cannot be set up is undone whole: namespace, CPU and file descriptors are as before."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.probes import leaves_connections_to_others
from harness.kernel.unprivileged import errno_without
from harness.wire.veth import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

# Root fails at the step that a test breaks; anyone else fails earlier, for want of rights. Both have to undo.


def standing() -> tuple[str, set[int], set[str]]:
    """Return what a failure may not change."""
    descriptors = {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}
    return str(Path("/proc/thread-self/ns/net").readlink()), os.sched_getaffinity(0), descriptors


def fail(*_: object, **__: object) -> None:
    raise OSError("broken by the test")


@pytest.mark.parametrize(
    ("owner", "name", "action"),
    [(Wire, "_connect", Wire), (fcntl, "ioctl", leaves_connections_to_others)],
    ids=["wire", "loopback"],
)
def test_failure_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, action: Callable[[], object]
) -> None:
    monkeypatch.setattr(owner, name, fail)
    before = standing()
    with pytest.raises(OSError, match=r"broken by the test|not permitted"):
        action()
    assert standing() == before


def test_child_that_is_killed_is_an_error_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="child"):
        errno_without(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_child_returns_the_errno_of_its_call() -> None:
    assert errno_without(lambda: None) == 0
    assert errno_without(fail_with_enoent) == 2


def fail_with_enoent() -> None:
    Path("/nonexistent").stat()

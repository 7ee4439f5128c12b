# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Change a map of maps, and let another thread wait for what the kernel waits for afterwards.

bpf(2) changes such a map at once and then waits for a grace period of RCU, so that no program uses the former map when
it returns (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c): 5 to 20 ms. What is sent after the change is decided by it
in any case; only a program that runs on another CPU meanwhile may still have the former map.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EXPEDITED = Path("/sys/kernel/rcu_expedited")


@cache
def grace_periods_are_short() -> bool:
    """Return whether the kernel hurries all grace periods (rcupdate.rcu_expedited), as those in VMs do."""
    try:
        return int(_EXPEDITED.read_text()) > 0
    except OSError:
        return False


def change(make: Callable[[], object], *, is_made: Callable[[], bool]) -> None:
    """Have another thread call `make`, and return as soon as the change can be seen; raises what `make` raises.

    Where grace periods are short this thread waits: that takes less than another thread does. It calls `make` itself,
    too, if there is nothing to see, as of a change that will be refused.
    """
    if grace_periods_are_short() or is_made():
        make()
        return
    begins, failures = threading.Event(), []

    def run() -> None:
        begins.set()
        try:
            make()
        except OSError as error:
            failures.append(error)

    waits = threading.Thread(target=run, name="grace period")
    waits.start()
    begins.wait()
    while waits.is_alive() and not is_made():
        waits.join(0.0001)
    if failures:
        raise failures[0]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the cases on the running kernel in several processes, each of which sends on one CPU.

A campaign stays in one process, for several would slow each other down; so does what is to print at once (`-s`).
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from harness.interface.keys import CPU_OF_PROCESS
from harness.kernel.release import Release, running

_A_CPU = 2
"""Processes for each CPU: one runs while the other waits for a grace period of RCU."""

_ENOUGH = 8
"""More processes gain nothing: to start takes one as long as its share of the cases."""

_OWN_SETTINGS = Release(6, 8)
"""From here on a process that changes net.core.optmem_max changes it for its namespace, not for all others. (What else
was the whole kernel's, the switch of sysctl bpf_stats_enabled, ended with 5.8.)"""

_NUMBERS = pytest.StashKey["itertools.count[int]"]()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return how many processes `-n auto` of `tox -e host` starts; 0 runs the cases in this one."""
    option = config.option
    if not option.where_possible or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if _are_few(config) or option.campaign or option.replay or option.capture == "no":
        return 0
    from harness.kernel.preflight import missing_requirement  # noqa: PLC0415

    if running() < _OWN_SETTINGS or missing_requirement():  # which is said once, not by each process
        return 0
    return min(_A_CPU * len(os.sched_getaffinity(0)), _ENOUGH)


def _are_few(config: pytest.Config) -> bool:
    """Return whether cases were chosen: they end before other processes have started."""
    option = config.option
    chosen = option.keyword or option.markexpr or option.collectonly or option.program or option.kernel_tree
    return bool(chosen) or not all(Path(word).is_dir() for word in config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process the next CPU, so that all are used: a process sends on one alone."""
    if not node.config.option.where_possible:
        return
    numbers = node.config.stash.setdefault(_NUMBERS, itertools.count())
    cpus = sorted(os.sched_getaffinity(0))
    node.workerinput[CPU_OF_PROCESS] = cpus[next(numbers) % len(cpus)]

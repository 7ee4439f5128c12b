# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""After the cases of a file, the kernel holds nothing that they left without an owner.

No socket, no network namespace, no BPF object.

What a case leaves open is kept by a descriptor of this process, and is found when the session ends. What no descriptor
leads to is a reference that the kernel lost: a socket that is never freed, a program that stays with it. A kernel with
kmemleak tells of all memory that nothing leads to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.interface.keys import KERNEL_LOG, OWN_KERNEL_LOG
from harness.kernel.holdings.bpf import Bpf, BpfObjects
from harness.kernel.holdings.descriptors import Descriptors
from harness.kernel.holdings.holding import HoldingError
from harness.kernel.holdings.kmemleak import KMEMLEAK, Kmemleak
from harness.kernel.holdings.memory import Memory
from harness.kernel.holdings.namespaces import NAMESPACES_ARE_COUNTED, Namespaces
from harness.kernel.holdings.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from harness.kernel.holdings.holding import Holding, Left


class Leaks:
    """The plugin that asks each kind of holding what cases left, and fails the last case of a file that left any."""

    def __init__(self, holdings: Iterable[Holding]) -> None:
        """Ask `holdings`, and the sockets and descriptors once the session's network namespace is there."""
        self._holdings = list(holdings)
        self._descriptors = Descriptors()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Take note of what is there before the first case."""
        self._descriptors.begin()
        for holding in list(self._holdings):
            try:
                holding.begin()
            except HoldingError:  # it was off from the start
                self._holdings.remove(holding)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Have the sockets counted of the session's namespace, which this thread is in once the wire is made."""
        result = yield
        if fixturedef.argname == "wire" and fixturedef.scope == "session":
            # Sockets come first: they close at the end what namespaces and descriptors would count.
            self._holdings = [Sockets(), *self._holdings, self._descriptors]
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Look once a case has ended; fail the last case of a file if something was left."""
        result = yield
        self._note(item.nodeid)
        if nextitem is None or nextitem.path != item.path:
            left, refusals = self._left(item.nodeid, ended=nextitem is None)
            if details := [each.detail for each in left if each.detail]:
                item.add_report_section("teardown", "kmemleak", "\n".join(details))
            if left or refusals:
                pytest.fail("\n  ".join([*_lines(left), *refusals]), pytrace=False)
        return result

    def _note(self, case: str) -> None:
        for holding in self._holdings:
            holding.note(case)

    def _left(self, case: str, *, ended: bool) -> tuple[list[Left], list[str]]:
        """Return what the cases of a file left, and why some kinds cannot be asked any more.

        `ended`: the session's fixtures have ended with the file.
        """
        left: list[Left] = []
        refusals = []
        for holding in list(self._holdings):
            try:
                left += holding.left_at_end(case) if ended else holding.left(case)
            except HoldingError as error:
                self._holdings.remove(holding)
                refusals.append(str(error))
        return left, refusals


def _lines(left: list[Left]) -> list[str]:
    """Return the words for what a file left: the first line stands by itself in summaries."""
    if not left:
        return []
    first, others = left[0].line, [each.line for each in left[1:]]
    return [f"the cases of this file left behind {first}" + (f", and {len(others)} more" if others else ""), *others]


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin where cases run."""
    if config.option.collectonly:
        return
    holdings: list[Holding] = []
    log = os.environ.get(KERNEL_LOG)
    if log:
        holdings += map(BpfObjects, Bpf)
    if log == OWN_KERNEL_LOG:  # looking at these changes settings of the kernel, which has to be nobody else's
        holdings += [Namespaces()] if NAMESPACES_ARE_COUNTED else []
        holdings += [Memory(Kmemleak())] if KMEMLEAK.exists() else []
    config.pluginmanager.register(Leaks(holdings), "harness-leaks")

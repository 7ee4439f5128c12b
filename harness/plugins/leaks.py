# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""After the cases of a file, the kernel holds nothing that they left without an owner.

No socket, no network namespace, no BPF object.

What a case leaves open is kept by a descriptor of this process, and is found when the session ends. What no descriptor
leads to is a reference that the kernel lost: a socket that is never freed, a program that stays with it. A kernel with
kmemleak tells of all memory that nothing leads to.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import pytest

from harness.interface.keys import KERNEL_LOG, OWN_KERNEL_LOG
from harness.kernel import holdings
from harness.kernel.holdings import Bpf, SocketCount
from harness.kernel.kmemleak import KMEMLEAK, Kmemleak, KmemleakError
from harness.wire.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_WAIT_SECONDS = 10.0
"""How long the kernel may take to free what nobody holds: after a grace period of RCU, and in a worker."""

_LOOK_EVERY = 0.02

_KINDS_OF_DESCRIPTORS = ("socket:", "net:")
"""Of descriptors that stay open these are told: reports and logs have files of their own, and the witness, which lives
longer than the session's fixtures, has BPF objects."""

_Held = TypeVar("_Held", int, set[tuple[Bpf, int]])

_NAMES = {Bpf.PROGRAM: "program", Bpf.MAP: "map", Bpf.LINK: "link"}


class Leaks:
    """The plugin that compares what is held with what has an owner, once a file."""

    def __init__(self, *, kinds: Iterable[Bpf], namespaces: bool, memory: Kmemleak | None) -> None:
        """Look at BPF objects of some kinds, at namespaces and at memory, too: those of the whole machine."""
        self._kinds = tuple(kinds)
        self._memory = memory
        self._namespaces = namespaces
        self._others = 0
        self._made = Namespace.made
        self._makers: list[str] = []
        self._looked = 0
        self._born: dict[tuple[Bpf, int], str] = {}
        self._newest = dict.fromkeys(self._kinds, 0)
        self._reported: set[tuple[Bpf, int]] = set()
        self._sockets_reported = 0
        self._course: list[tuple[str, int]] = []
        self._at_first: set[tuple[int, str]] = set()
        self._seen: dict[tuple[int, str], str] = {}
        self._place: Namespace | None = None
        self._sockets: SocketCount | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Take note of what was there before the first case."""
        self._at_first = _descriptors()
        self._note_objects("")
        if self._namespaces:
            self._others = _namespaces_beyond(holdings.own_namespaces() - 1) - 1
        self._reported = set(self._born)
        try:
            if self._memory is not None:
                self._memory.forget()
        except KmemleakError:  # it was off from the start
            self._memory = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Look once a case has ended; fail the last case of a file if something was left."""
        if self._place is None and "wire" in getattr(item, "fixturenames", ()):
            # The session's namespace, which the last case's end leaves.
            self._place, self._sockets = Namespace.current(), SocketCount()
        result = yield
        is_last = nextitem is None or nextitem.path != item.path
        left: list[str] = []
        if self._place is not None and self._sockets is not None:
            if nextitem is None:
                with self._place.inside():
                    left += self._left_by(item.nodeid, self._sockets)
                self._place.close()
                self._sockets.close()
                left += [*self._left_namespaces(), *self._left_open()]
            elif is_last:
                left += [*self._left_by(item.nodeid, self._sockets), *self._left_namespaces()]
            else:
                self._note(item.nodeid, self._sockets)
        if is_last and self._memory is not None:
            left += self._lost_memory(item, self._memory)
        if left:
            # The first line stands by itself in summaries.
            said = f"the cases of this file left behind {left[0]}" + (f", and {len(left) - 1} more" if left[1:] else "")
            pytest.fail("\n  ".join([said, *left[1:]]), pytrace=False)
        return result

    def _note(self, case: str, sockets: SocketCount) -> None:
        self._course.append((case, sockets.read()))
        self._note_objects(case)
        if Namespace.made != self._made:
            self._made = Namespace.made
            self._makers.append(case)

    def _left_by(self, last: str, sockets: SocketCount) -> list[str]:
        """Return a line for each thing that the cases of a file left; `last` is the last of them."""
        self._note(last, sockets)
        left = [*self._lost_sockets(sockets), *self._lost_objects()]
        self._course.clear()
        for each in _descriptors():
            self._seen.setdefault(each, last)
        return left

    def _note_objects(self, case: str) -> None:
        for kind in self._kinds:
            for number in holdings.bpf_ids(kind, after=self._newest[kind]):
                self._born[kind, number] = case
                self._newest[kind] = number

    def _lost_sockets(self, sockets: SocketCount) -> list[str]:
        def lost() -> int:
            owned = holdings.own_sockets() + holdings.sockets_of_connections()
            return max(0, sockets.read() - owned - self._sockets_reported)

        if not (count := _least(lost)):
            return []
        self._sockets_reported += count
        last = self._course[-1][1]
        since = next(
            case for at, (case, _) in enumerate(self._course) if all(number >= last for _, number in self._course[at:])
        )
        return [f"{count} sockets that no descriptor leads to, seen since {since}"]

    def _lost_objects(self) -> list[str]:
        left = []
        for kind in self._kinds:

            def lost(kind: Bpf = kind) -> set[tuple[Bpf, int]]:
                there = {(kind, number) for number in holdings.bpf_ids(kind)} - self._reported
                return there - {(kind, number) for number in holdings.own_bpf_ids(kind)}

            found = _least(lost)
            self._reported |= found
            left += [f"{_NAMES[kind]} {each[1]}, made by {self._born.get(each, 'no case')}" for each in sorted(found)]
        return left

    def _lost_memory(self, item: pytest.Item, memory: Kmemleak) -> list[str]:
        try:
            leaks = memory.new()
        except KmemleakError as error:
            self._memory = None
            pytest.fail(str(error), pytrace=False)
        if leaks:
            item.add_report_section("teardown", "kmemleak", "\n".join(leak.text for leak in leaks))
        return [str(leak) for leak in leaks]

    def _left_namespaces(self) -> list[str]:
        """Return a line for namespaces that were lost; looking makes one, and so is done after a file only."""
        if not self._namespaces:
            return []
        expected = self._others + holdings.own_namespaces()
        # One that was freed a moment ago is still counted. While there are more than expected, looking makes none.
        waited = _least(lambda: int(holdings.more_namespaces_than(expected)))
        lost = _namespaces_beyond(expected) if waited else 0
        self._others += lost
        makers = self._makers[self._looked :] or self._makers
        self._looked, self._made = len(self._makers), Namespace.made
        return [f"{lost} network namespaces, of those made by {', '.join(makers) or 'no case'}"] if lost else []

    def _left_open(self) -> list[str]:
        there = _descriptors() - self._at_first
        return [f"descriptor {each[0]}, {each[1]}, seen since {self._seen[each]}" for each in sorted(there)]


def _descriptors() -> set[tuple[int, str]]:
    return {each for each in holdings.descriptors() if each[1].startswith(_KINDS_OF_DESCRIPTORS)}


def _namespaces_beyond(number: int) -> int:
    return next(more for more in count() if not holdings.more_namespaces_than(number + more))


def _least(look: Callable[[], _Held]) -> _Held:
    """Return what `look` returns, once that is nothing or the kernel has had time enough."""
    until = time.monotonic() + _WAIT_SECONDS
    while (held := look()) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
    return held


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin where cases run."""
    if not config.option.collectonly:
        log = os.environ.get(KERNEL_LOG)
        # Looking at namespaces and memory changes settings of the kernel, which has to be nobody else's.
        is_own = log == OWN_KERNEL_LOG
        leaks = Leaks(
            kinds=Bpf if log else (),
            namespaces=is_own and holdings.NAMESPACES_ARE_COUNTED,
            memory=Kmemleak() if is_own and KMEMLEAK.exists() else None,
        )
        config.pluginmanager.register(leaks, "harness-leaks")

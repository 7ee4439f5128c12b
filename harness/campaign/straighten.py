# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a packet that shows a difference as usual as it can be: what is bent for no reason is made right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.campaign.difference import difference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.campaign.difference import Difference
    from harness.model.bent import Bent


def straighten(
    run: Callable[[Sequence[Bent]], None], packets: tuple[Bent, ...], difference: Difference
) -> tuple[tuple[Bent, ...], Difference]:
    """Return the packets with as few bends as still show a difference, and that difference."""
    place = 0
    while place < len(packets):
        for bent in _straighter(packets[place]):
            changed = (*packets[:place], bent, *packets[place + 1 :])
            if (found := difference_of(run, changed)) is not None:
                packets, difference = changed[: found.place], found
                break
        else:
            place += 1
    return packets, difference


def _straighter(bent: Bent) -> Iterator[Bent]:
    """Yield the packet with one bend less, and with one that is less bent."""
    usual = type(bent)()
    for name, value in bent.changed().items():
        for straighter in (getattr(usual, name), *_less(value)):
            changed: dict[str, Any] = {name: straighter}
            yield replace(bent, **changed)


def _less(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for place in range(len(value)):
            yield value[:place] + value[place + 1 :]
    elif isinstance(value, bytes):
        for place in range(0, len(value), 4):
            yield value[:place] + value[place + 4 :]
    elif type(value) is int and abs(value) > 1:
        yield value // 2 if value > 0 else -(-value // 2)
        yield value - 1 if value > 0 else value + 1

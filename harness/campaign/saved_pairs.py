# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pairs of histories as text: a file that `--replay` takes, a case to paste into cases/, a line of the kernel's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.campaign.found import Found, number, texts
from harness.campaign.pair import Pair, pair_of
from harness.campaign.saved import imports_of
from harness.model.layout import Protocol
from harness.model.life.text import from_json, spelled, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.life.steps import Step

FORMAT, VERSION = "reuseport pair", 1
_LINE = re.compile(rf"{FORMAT} {VERSION}, (1|2) ports: (udp|tcp) ([0-9a-f ]*)/ (udp|tcp) ([0-9a-f ]*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SavedPair(Found):
    """A pair of histories with what it showed, and how often."""

    FORMAT: ClassVar[str] = FORMAT
    VERSION: ClassVar[int] = VERSION
    KIND: ClassVar[str] = "pair"

    pair: Pair
    tries: int = 0
    """How often it was lived through once it was as short as this."""
    differed: int = 0
    """In how many of those tries kernel and model differed."""
    frames: tuple[str, ...] = ()
    """The frames of the packet that showed the difference, in hexadecimal; empty if none did."""

    def rows(self) -> list[Any]:
        """Return the steps of both as JSON."""
        return [to_json(self.pair.first), to_json(self.pair.second)]

    def content(self) -> dict[str, Any]:
        """Return the pair, how often it differed, and the frames as JSON."""
        first, second = self.rows()
        return {
            "ports": self.pair.ports,
            "protocols": [str(protocol) for protocol in self.pair.protocols],
            "tries": self.tries,
            "differed": self.differed,
            "frames": list(self.frames),
            "first": first,
            "second": second,
        }

    @classmethod
    def from_json(cls, given: Any) -> SavedPair:
        """Return what `to_json` wrote; ValueError says what is wrong with it."""
        ports, protocols = number(given, "ports"), texts(given, "protocols")
        if ports not in (1, 2) or len(protocols) != 2 or (ports == 1 and len(set(protocols)) == 2):
            raise ValueError(f"two histories of {' and '.join(protocols) or 'nothing'} on {ports} ports are no pair")
        first, second = map(Protocol, protocols)
        return cls(
            **cls.shared_fields(given),
            pair=Pair(
                first=_history(given, "first"),
                second=_history(given, "second"),
                protocols=(first, second),
                ports=ports,
            ),
            tries=number(given, "tries"),
            differed=number(given, "differed"),
            frames=texts(given, "frames"),
        )

    def as_case(self) -> str:
        """Return a case to paste into cases/, which fails where this did."""
        pair = self.pair
        values = [_list("first", pair.first), _list("second", pair.second)]
        values.append(f"protocols=({', '.join(f'Protocol.{protocol.name}' for protocol in pair.protocols)})")
        values.append(f"ports={pair.ports}")
        imports = imports_of((*pair.first, *pair.second), "".join(values))
        return self.case(fixture_type="LivePair", imports=imports, values=values)


def _history(given: Any, name: str) -> tuple[Step, ...]:
    try:
        return from_json(given.get(name))
    except ValueError as error:
        raise ValueError(f"of the {name} history, {error}") from error


def _list(name: str, steps: Iterable[Step]) -> str:
    return "\n".join([f"{name}=[", *(f"            {spelled(step)}," for step in steps), "        ]"])


def from_log(text: str) -> SavedPair | None:
    """Return the pair that was to be lived through last, by a console's log; None if it has none."""
    lines = _LINE.findall(text)
    if not lines:
        return None
    ports, one, first, other, second = lines[-1]
    numbers = [int(text, 16) for text in first.split()], [int(text, 16) for text in second.split()]
    return SavedPair(pair=pair_of(numbers, (Protocol(one), Protocol(other)), int(ports)))


def log_line(numbers: tuple[list[int], list[int]], protocols: tuple[Protocol, Protocol], ports: int) -> str:
    """Return the line that stands in the kernel's log before a pair is lived through: the numbers of its steps.

    In hexadecimal: a line of the log has room for 976 bytes (kernel/printk/printk.c, PRINTKRB_RECORD_MAX).
    """
    first, second = (
        f"{protocol} {' '.join(f'{number:x}' for number in part)}"
        for part, protocol in zip(numbers, protocols, strict=True)
    )
    return f"{FORMAT} {VERSION}, {ports} ports: {first} / {second}"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read a kernel's console: what it complains of, and which case was running.

The scan fails closed: a console in which the marks of the cases that ran are not found was not read whole, and says
nothing about splats.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

BEGIN, END = "reuseport-harness: begin ", "reuseport-harness: end"
"""What a worker in a VM writes to /dev/kmsg around each case."""

NEW_VM = "---- another VM: "
"""Between two VMs of one kernel in a console.log, followed by why the one before ended, or by what runs beside it."""

KVM_FAILED = f"{NEW_VM}KVM failed: "
"""The same where KVM did not bring the kernel up: what that VM said is no news about the kernel."""

LONGEST = 100  # lines of a splat
_LINES_OF_A_HEAD = 5
"""A splat may say what it is more than once: a NULL pointer's BUG is an Oops four lines on. Later it is another one."""

_ALLOWED = Path(__file__).with_name("console.toml")

_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?)?")
_CUT_HERE = "------------[ cut here ]------------"
_END_TRACE = re.compile(r"^---\[ end ")

# Kinds in the order in which they are tried: the first that fits names the splat.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("sanitizer", re.compile(r"^BUG: K[A-Z]*SAN: |^BUG: KFENCE: |^UBSAN: ")),
    # Of memory that SLUB checks (slub_debug), or that debugobjects does.
    ("object", re.compile(r"^BUG [\w-]+ \([^)]*\): |^ODEBUG: (?!selftest passed)|^WARNING: .* debug_print_object\+")),
    (
        "refcount",
        re.compile(
            r"^refcount_t: |^WARNING: .* refcount_warn_saturate\+|"
            r"^(?:\w+: )?Attempt to release (?:TCP|alive inet) socket"
        ),
    ),
    (
        "lockdep",
        re.compile(
            r"^WARNING: (?:possible (?:circular|recursive|irq)|suspicious RCU|inconsistent lock|bad unlock|Nested lock|"
            r"bad contention|held lock freed|lock held when|chain_key|.* still has locks held|.*lock order)|"
            r"^\[ BUG: Invalid wait context|^BUG: MAX_\w+ too low!|^INFO: trying to register non-static key"
        ),
    ),
    (
        "soft lockup",
        re.compile(r"^(?:watchdog: )?BUG: (?:soft|hard) lockup|^(?:NMI )?watchdog: Watchdog detected hard"),
    ),
    ("RCU stall", re.compile(r"^rcu: INFO: rcu\w* (?:self-)?detected (?:expedited )?stall|^INFO: rcu\w* .*stall")),
    ("hung task", re.compile(r"^INFO: task .* blocked (?:for more than|on a)")),
    # Not the count of those that are suspected: the first of two scans suspects what the second clears.
    ("memory leak", re.compile(r"^(?:kmemleak: )?unreferenced object 0x")),
    ("BUG", re.compile(r"^BUG: |^kernel BUG at |^watchdog: BUG: ")),
    # A name, an error code and a count of them (__die_header): int3 is what a freed program is filled with.
    ("Oops", re.compile(r"^Oops: |^(?:Oops: )?general protection fault|^[a-z][\w -]*: [0-9a-f]{4} \[#\d+\]")),
    ("WARNING", re.compile(r"^WARNING: ")),
)
_PANIC = re.compile(r"^Kernel panic - not syncing: (.*)")
_HANG = re.compile(r"softlockup|soft lockup|hard LOCKUP|hung_task|RCU Stall", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Splat:
    """One complaint of the kernel."""

    kind: str
    title: str  # its first line
    case: str | None  # that was running when it came
    excerpt: str


@dataclass(frozen=True, kw_only=True)
class Panic:
    """The panic that ended a kernel."""

    reason: str
    case: str | None
    excerpt: str

    @property
    def is_hang(self) -> bool:
        """Tell whether the kernel gave up because something did not move on."""
        return bool(_HANG.search(self.reason))


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """An entry of console.toml: a splat that is known and says nothing about reuseport."""

    pattern: str  # searched in the splat's excerpt
    reason: str
    link: str


class ConsoleError(Exception):
    """A console cannot be scanned; the message says why."""


def load_allowances(path: Path = _ALLOWED) -> tuple[Allowance, ...]:
    """Read console.toml. Raises TypeError for an entry without a reason or a link."""
    return tuple(Allowance(**entry) for entry in tomllib.loads(path.read_text()).get("allow", []))


def scan(console: str, *, ran: Collection[str], allowances: Sequence[Allowance] = ()) -> list[Splat]:
    """Return the splats of `console`, in order, but for the allowed ones.

    `ran` are the cases that ran on it. Raises ConsoleError if the console is empty or lacks the mark of one of them.
    """
    lines = [_text_of(line) for line in _under_test(console.splitlines())]
    if not lines:
        raise ConsoleError("the console is empty")
    begun = {line.removeprefix(BEGIN) for line in lines if line.startswith(BEGIN)}
    if missing := [case for case in ran if _mark_of(case) not in begun]:
        raise ConsoleError(f"the console has no mark of {missing[0]} (and {len(missing) - 1} more): it is not whole")
    return [splat for splat in _splats(lines) if not any(re.search(a.pattern, splat.excerpt) for a in allowances)]


def last_panic(console: str) -> Panic | None:
    """Return the panic that ended the last VM on `console`, None if there is none."""
    lines = [_text_of(line) for line in _last_vm(console)]
    for number, line in enumerate(lines):
        if match := _PANIC.match(line):
            return Panic(reason=match[1], case=_case_at(lines, number), excerpt=tail(console))
    return None


def tail(console: str, *, lines: int = 40) -> str:
    """Return the last words on the console, from the running case's mark on if that is nearer."""
    last = _last_vm(console)
    for number in range(len(last) - 1, -1, -1):
        if _text_of(last[number]).startswith(BEGIN):
            return "\n".join(last[max(number, len(last) - LONGEST) :])
    return "\n".join(last[-lines:])


def _last_vm(console: str) -> list[str]:
    """Return the lines of the VM that ran last."""
    _, another, text = console.rpartition(NEW_VM)
    return text.splitlines()[1 if another else 0 :]


def _under_test(lines: list[str]) -> list[str]:
    """Return the lines but for those of VMs that KVM did not bring up."""
    kept: list[str] = []
    start = 0  # of the VM at hand
    for line in lines:
        if line.startswith(KVM_FAILED):
            del kept[start:]
        if line.startswith(NEW_VM):
            start = len(kept) + 1
        kept.append(line)
    return kept


def _mark_of(case: str) -> str:
    # What printk takes of a line is just under a kilobyte; the worker cuts there.
    return case[:LONGEST_MARK]


LONGEST_MARK = 800


def _text_of(line: str) -> str:
    return _PREFIX.sub("", line.rstrip())


def _splats(lines: list[str]) -> Iterator[Splat]:
    number = 0
    while number < len(lines):
        kind = _kind_of(lines[number])
        if kind is None:
            number += 1
            continue
        first = number - 1 if number and lines[number - 1] == _CUT_HERE else number
        end = _end_of_splat(lines, number)
        yield Splat(
            kind=_finest_kind(lines[number:end]),
            title=lines[number],
            case=_case_at(lines, number),
            excerpt="\n".join(lines[first:end]),
        )
        number = end


def _kind_of(line: str) -> str | None:
    return next((kind for kind, pattern in _KINDS if pattern.search(line)), None)


def _finest_kind(lines: list[str]) -> str:
    """Return the kind that comes first in the table: a refcount's WARNING names itself in a later line."""
    found = {_kind_of(line) for line in lines}
    return next(kind for kind, _ in _KINDS if kind in found)


def _end_of_splat(lines: list[str], start: int) -> int:
    for number in range(start + 1, min(len(lines), start + LONGEST)):
        line = lines[number]
        if _END_TRACE.match(line):
            return number + 1
        if line.startswith((BEGIN, END, NEW_VM)) or line == _CUT_HERE:
            return number
        if number - start > _LINES_OF_A_HEAD and _kind_of(line):
            return number
    return min(len(lines), start + LONGEST)


def _case_at(lines: list[str], number: int) -> str | None:
    for line in reversed(lines[:number]):
        if line.startswith(BEGIN):
            return line.removeprefix(BEGIN)
        if line.startswith((END, NEW_VM)):
            return None
    return None

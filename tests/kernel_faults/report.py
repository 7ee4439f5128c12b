# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/kernel-faults.md: each fault, and what noticed it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .state import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .state import Result
    from .table import Fault

_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause -->
<!-- Written by `tox -e kernel-faults` from tests/kernel_faults/: change what is there. -->
# Which faults of a kernel does the suite notice?

Each line is one wrong edit of a kernel function. All of them are in one kernel, dead until its parameter
`reuseport_fault` names one; the suite then runs to the first case that notices. The time is what the cases took until
then, under emulation.

```sh
./bootstrap tox -e kernel-faults              # all of them: an hour
tox -e kernel-faults -- --resume              # go on where a run ended
tox -e kernel-faults -- members-not-counted   # one
```

Once the kernel is built, ten faults take a minute, and all of them 45 minutes, in four emulated VMs on two cores
that also had other work. `--source` plants into another kernel: 350 faults apply to Linux 6.12.118, and of 20 that were
drawn by lot the cases of their promises noticed 20 there.

**Faults that nobody chose.** The table is as good as those who wrote it. So 190 edits of one token in the functions
below were drawn by lot on 6.1.192 (a comparison, a condition, an assignment, a call, an errno, a constant), and 169
of them tried: 158 were noticed. Three that were not noticed, and two that were not tried, broke what no case had
checked: which member an ICMP error is told to, what setsockopt(2) returns, what a TCP port remembers of a former
member. They are in the table now, with their cases. Of the other eight one leaks memory (kmemleak sees it), one shows
only as two CPUs meet, two are equivalent, and four change what has nothing to do with the selection: SO_PRIORITY,
SO_TXTIME, two statistics.

**One for its neighbour.** Then 91 edits took one variable, field or argument for another of its kind, wherever two
stand side by side in these functions: the old group for the new one, this socket's option for that one's, the link for
the device above it. Seven are equivalent: four hashes without the local address, which is one for all packets of a
group, and three of requests that nobody reads again. For 35 of the others no case was known that would notice, and
cases were written: groups under a VRF device, a stopped group that joins a full one, SO_REUSEADDR where a port has many
sockets, a filter behind SK_LOOKUP, peers with one port. The table has all 84.
"""

_NOTES = {
    Outcome.SPLAT: "by a splat, during ",
    Outcome.PANIC: "by a panic, during ",
    Outcome.HANG: "by a hang, during ",
}


def page(faults: Sequence[Fault], results: Mapping[str, Result]) -> str:
    """Return the page; `results` by the faults' names."""
    current = {fault.name: one for fault in faults if (one := _result(fault, results)) is not None}
    plain = [fault for fault in faults if fault.is_for(())]
    tried = [fault for fault in plain if fault.name in current]
    killed = [fault for fault in tried if current[fault.name].outcome.is_kill]
    races = [fault for fault in tried if current[fault.name].outcome is Outcome.RACE]
    left = [fault for fault in tried if current[fault.name].outcome is Outcome.OPEN]
    survivors = [fault for fault in tried if current[fault.name].outcome is Outcome.SURVIVED]
    equivalent = [fault for fault in faults if fault.equivalent]
    elsewhere = [fault for fault in faults if fault.seen_by and not fault.equivalent]
    untried = [fault for fault in plain if fault.name not in current]
    releases = sorted({current[fault.name].release for fault in tried})
    share = f" ({len(killed) / len(tried):.1%})" if tried else ""
    parts = [
        _HEAD,
        f"Tried were {len(tried)} of {len(plain)}, on Linux {', '.join(releases) or '(none yet)'}: the suite noticed "
        f"{len(killed)} of {len(tried)}{share}, and {len(races)} only by a race. Left open: {len(left)}. Not tried, as "
        f"nothing can tell them: {len(equivalent)}; as they take another kernel to see: {len(elsewhere)}.\n",
        _section(
            "Not noticed",
            "A case is missing for each of these.",
            ("fault", "function", "what is wrong", "promise", ""),
            ([*_row(fault), _missed(current[fault.name])] for fault in [*survivors, *races]),
        ),
        _section(
            "Left open",
            "Only the cases of their promises ran (`--quick`), and did not notice.",
            ("fault", "function", "what is wrong", "promise"),
            (_row(fault) for fault in left),
        ),
        _section(
            "Equivalent",
            "No packet and no call can tell these.",
            ("fault", "function", "what is wrong", "why"),
            ([*_row(fault)[:3], fault.equivalent] for fault in equivalent),
        ),
        _section(
            "Seen elsewhere",
            "What is wrong shows in memory or in locking, not in where a packet goes: a run leaves these out, unless "
            "it names them. A kernel of the [flavour](debug-kernels.md) sees them; many tries are "
            "repetitions of a race, on any kernel.",
            ("fault", "function", "what is wrong", "promise", "seen by", "last run"),
            ([*_row(fault), fault.seen_by, _last(current.get(fault.name))] for fault in elsewhere),
        ),
        _section(
            "Noticed",
            "",
            ("fault", "function", "what is wrong", "noticed by", "s"),
            ([*_row(fault)[:3], _by(current[fault.name]), f"{current[fault.name].seconds:g}"] for fault in killed),
        ),
        _section("Not tried", "", ("fault", "function", "what is wrong", "promise"), (_row(one) for one in untried)),
    ]
    return "\n".join(part for part in parts if part)


def _result(fault: Fault, results: Mapping[str, Result]) -> Result | None:
    result = results.get(fault.name)
    return result if result is not None and result.digest == fault.digest else None


def _row(fault: Fault) -> list[str]:
    return [f"`{fault.name}`", f"`{fault.function}`", fault.operator, ", ".join(fault.breaks)]


def _last(result: Result | None) -> str:
    return f"{result.outcome}{f', {_by(result)}' if result.case else ''}" if result else ""


def _missed(result: Result) -> str:
    if result.outcome is Outcome.SURVIVED:
        return result.why
    return f"not each time by {_by(result)}"


def _by(result: Result) -> str:
    case = result.case.replace("cases/", "").replace("|", r"\|")
    return f"{_NOTES.get(result.outcome, '')}`{case}`" if case else _NOTES.get(result.outcome, "").partition(",")[0]


def _section(title: str, says: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([f"## {title}\n", *([f"{says}\n"] if says else []), *head, *lines, ""])

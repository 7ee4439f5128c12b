# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What several runs reached of one kernel, as results.json has it; the reasons, as unreached.toml has them. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vm.report.kernel_lines import NONE, Share, ranges

from .heads import heads, without_comments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vm.report.kernel_lines import Function

OWN = ("net/core/sock_reuseport.c", "kernel/bpf/reuseport_array.c")
"""The files that are the group and its map: the page shows them by function, and each branch of them needs a reason."""


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A line that the first run did not reach, or did not reach each branch of."""

    file: str
    function: str
    line: int
    text: str
    """The line, without the comments and the white space around it."""
    below: tuple[str, ...] = ()
    """The heads of the branches that the line is in, the innermost first (`heads`)."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why lines are not reached: those that fit all of it; a `*` stands for anything.

    Lines are named by what they say, not by their numbers, so that a reason is one for the next kernel, too.
    """

    file: str
    function: str
    reason: str
    text: str = "*"
    below: str = "*"
    """The head of a branch that the line is in, at whatever depth."""

    def covers(self, missed: Missed) -> bool:
        """Return whether it is the reason of a line."""
        return (
            _fits(self.file, missed.file)
            and _fits(self.function, missed.function)
            and _fits(self.text, missed.text)
            and (self.below == "*" or any(_fits(self.below, head) for head in missed.below))
        )

    def __str__(self) -> str:
        lines = [part for part in (self.below, self.text) if part != "*"]
        return f"{self.file}, {self.function}: {' … '.join(lines)}"


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """What unreached.toml has."""

    lines: Sequence[Reason]
    """Of lines that are not reached."""
    branches: Sequence[Reason]
    """Of lines that are reached, but not each branch of them."""


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What the runs reached."""

    release: str
    runs: Mapping[str, Mapping[str, Sequence[int]]]
    """For each run what ran, by "FILE FUNCTION": lines that ran, all lines, branches that ran, all branches."""
    missed: Sequence[Missed]
    """The lines that the first run did not reach."""
    half: Sequence[Missed]
    """The lines of the group and its map that the first run reached, but not each branch of them."""


def gather(release: str, runs: Mapping[str, Sequence[Function]], texts: Mapping[str, str]) -> Reached:
    """Return what the runs reached; `texts` has the sources, and the first run is the one whose gaps count."""
    first = next(iter(runs.values()), ())
    lines = {file: without_comments(text) for file, text in texts.items()}
    missed = [_missed(one, number, lines[one.file]) for one in first for number in one.missed]
    half = [_missed(one, number, lines[one.file]) for one in first if one.file in OWN for number in one.half]
    rows = {
        name: {
            f"{one.file} {one.name}": (one.lines.hit, one.lines.of, one.branches.hit, one.branches.of)
            for one in functions
        }
        for name, functions in runs.items()
    }
    return Reached(release=release, runs=rows, missed=missed, half=half)


def _missed(function: Function, number: int, lines: Sequence[str]) -> Missed:
    text = " ".join(lines[number - 1].split())
    return Missed(file=function.file, function=function.name, line=number, text=text, below=heads(lines, number))


def to_json(reached: Reached) -> str:
    """Return the text of results.json."""
    rows = {name: {key: list(row) for key, row in run.items()} for name, run in reached.runs.items()}
    missed, half = ([asdict(one) for one in found] for found in (reached.missed, reached.half))
    content = {"release": reached.release, "runs": rows, "missed": missed, "half": half}
    # A function a line.
    text = json.dumps(content, indent=1)
    return re.sub(r"\[\s+(\d+),\s+(\d+),\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2, \3, \4]", text) + "\n"


def from_json(text: str) -> Reached:
    """Return what results.json says."""
    content: dict[str, Any] = json.loads(text)
    missed, half = (
        [Missed(**{**one, "below": tuple(one["below"])}) for one in content[name]] for name in ("missed", "half")
    )
    return Reached(release=content["release"], runs=content["runs"], missed=missed, half=half)


def reasons(text: str) -> Reasons:
    """Return the reasons of unreached.toml."""
    content = tomllib.loads(text)
    lines, branches = ([Reason(**entry) for entry in content.get(name, ())] for name in ("unreached", "branches"))
    return Reasons(lines=lines, branches=branches)


def unexplained(reached: Reached, known: Reasons) -> list[Missed]:
    """Return the lines that are not reached, or in part, and have no reason."""
    return [
        one
        for gaps, of in ((reached.missed, known.lines), (reached.half, known.branches))
        for one in gaps
        if not any(reason.covers(one) for reason in of)
    ]


_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause -->
<!-- Written by `python -m tests.kernel_coverage` from tests/kernel_coverage/: change what is there. -->
# Which lines of the kernel do the cases reach?

A kernel of the flavour `gcov` counts which lines and branches of its reuseport code run: of the functions that
[counted.toml](../vm/kernels/counted.toml) names. A run with `--kernel-coverage` brings the counts out of the guest, and
gcovr writes them to `results/latest/KERNEL/`: `coverage/index.html`, the sources with each line's count, and
`coverage.txt`, every function with the lines that did not run.

```sh
python -m vm build ~/linux --output ~/linux-gcov --flavour gcov
tox -e vm -- --kernel ~/linux-gcov --kernel-coverage
tox -e vm -- --kernel ~/linux-gcov --memory 2048 --kernel-coverage cases tests/kernel_coverage
tox -e vm -- --kernel ~/linux-gcov --kernel-coverage --campaign 120 --seed 1
python -m vm run --kernel-coverage selftests ~/linux-gcov -- ~/kselftest/run_kselftest.sh -t net:reuseport_bpf
```

The second run has cases in it whose allocations fail, for which the flavour has CONFIG_FAILSLAB, and some of a group
that is full. The third has the [campaigns](campaigns.md) alone. The last command counts what any command reaches, here
one of the kernel's own selftests. In the tables "selftests" are these together: of net/ `reuseport_bpf`,
`reuseport_bpf_cpu`, `reuseport_dualstack`, `reuseport_addr_any` and `stress_reuseport_listen`; of bpf/
`select_reuseport` and `migrate_reuseport`. "campaigns" are the third command, with `--campaign 60`.

Counts begin with the boot, and those of a kernel's VMs are added. A function that the compiler put into its callers is
counted where it stands in the source; each copy has branches of its own. A kernel that counts nothing, notes or sources
that are gone, and a kernel of another GCC than this machine's gcov are refused before anything boots (status 4; 13 for
the missing gcov).
"""


def page(reached: Reached, known: Reasons) -> str:
    """Return the page: by file for each run, by function where it is the group's own code, and what was not reached."""
    names = list(reached.runs)
    if not any(reached.runs.values()):
        return f"{_HEAD}\nNo run has been put down here yet.\n"
    files = dict.fromkeys(key.partition(" ")[0] for run in reached.runs.values() for key in run)
    by_file = [
        [f"`{file}`", *(cell for name in names for cell in _shares(_of_file(reached.runs[name], file)))]
        for file in files
    ]
    together = ["together", *(cell for name in names for cell in _shares(reached.runs[name].values()))]
    functions = [
        [f"`{key.partition(' ')[2]}`", *(cell for name in names for cell in _shares([reached.runs[name][key]]))]
        for key in reached.runs[names[0]]
        if key.partition(" ")[0] in OWN
    ]
    heading = [f"{name}: {what}" for name in names for what in ("lines", "branches")]
    parts = [
        _HEAD,
        f"The numbers are Linux {reached.release}'s, of one build.\n",
        _table("By file", ["file", *heading], [*by_file, together]),
        _table("The group and its map, by function", ["function", *heading], functions),
        *_gaps("Lines that the cases do not reach", reached.missed, known.lines),
        *_gaps("Branches of the group and its map that the cases do not take", reached.half, known.branches),
    ]
    return "\n".join(parts)


def _gaps(title: str, gaps: Sequence[Missed], known: Sequence[Reason]) -> list[str]:
    why = {one: next((reason.reason for reason in known if reason.covers(one)), "") for one in gaps}
    if not why:
        return []
    shown = [
        [f"`{file}` `{function}`", ranges(lines), reason or "none yet: a case is missing"]
        for (file, function, reason), lines in _grouped(why).items()
    ]
    rest = sum(1 for reason in why.values() if not reason)
    said = f"{len(why)} lines; {rest} of them for no reason that is known.\n"
    return [_table(title, ["function", "lines", "why"], shown, said)]


def _grouped(why: Mapping[Missed, str]) -> dict[tuple[str, str, str], list[int]]:
    found: dict[tuple[str, str, str], list[int]] = {}
    for one, reason in why.items():
        found.setdefault((one.file, one.function, reason), []).append(one.line)
    return found


def _of_file(run: Mapping[str, Sequence[int]], file: str) -> list[Sequence[int]]:
    return [row for key, row in run.items() if key.partition(" ")[0] == file]


def _shares(rows: Iterable[Sequence[int]]) -> tuple[str, str]:
    lines, branches = NONE, NONE
    for hit, of, hit_branches, of_branches in rows:
        lines, branches = lines + Share(hit=hit, of=of), branches + Share(hit=hit_branches, of=of_branches)
    return str(lines), str(branches)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], said: str = "") -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([f"## {title}\n", *([said] if said else []), *head, *lines, ""])


def unused(reached: Reached, known: Reasons) -> list[Reason]:
    """Return reasons of lines that were reached, or are not there: to be taken out."""
    return [
        reason
        for gaps, of in ((reached.missed, known.lines), (reached.half, known.branches))
        for reason in of
        if not any(reason.covers(one) for one in gaps)
    ]

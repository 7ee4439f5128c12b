# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write docs/performance.md from docs/performance.json, which has what runs of the bench measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.interface.atomic import write_text

from . import kept
from .measured import spending
from .measured.selection import SIZES, WAYS, part
from .measurement import Spread, parts, ratios, shortly
from .table import MEASUREMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .kept import Bench

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA, PAGE = DOCS / "performance.json", DOCS / "performance.md"

_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause -->
<!-- Written by tests/bench/page.py from performance.json: measure again instead of changing it. -->
# How fast is it?

`tox -e bench` measures ratios, each of two things that ran one right after the other: a ratio means something on a busy
machine, a number of seconds does not. Every value is the median of its rounds, with the smallest and the largest.

```sh
tox -e bench                                  # on the running kernel
tox -e bench -- --kernel 6.1                  # in a VM, and what VMs themselves take
tox -e bench -- --only strict --rounds 20     # one of them
tox -e bench -- --page results/bench-TIME/bench.json    # put what was measured into this page
```

"asked for" is the project's own aim. What is not reached is said so.
"""


_FOOT = """\
## What is behind it

**Growth with the group.** The clients of the selection are 64, and the members that they reach stay in the CPU's
caches. With members that nobody has touched for a while each packet waits for memory, in a group of any size. "Every
socket looked at" is a group with a connected socket, for which kernels compare all to this day.

**A packet that is checked alone.** Of some 55 µs the kernel has 4: those that the bare loop takes. The rest is 200
calls of functions in Python: half for the model and the comparison, half for ten system calls and what they return. A
quarter of the bare loop's rate, which is asked for, leaves 15 µs a packet; nobody has got there. Batches get further,
and look at less.

**What was done for runs on the running kernel.** All cases took 23.6 s of CPU time (2,391 cases, two busy CPUs), and
14.8 s in bpf(2), nearly all of it waiting for grace periods of RCU.

| what | all cases, CPU time | the reference cases, CPU time |
|---|---|---|
| at first | 23.6 s | 2.9 s |
| another thread waits when a map of maps has changed | 18.5 s | 2.9 s |
| hypothesis's plugin is not loaded, the collector leaves alone what was collected | | 2.0 s |
| the kernel ends the waits of the wire, without poll(2) | | 2.0 s |

All 2,618 cases take 34.3 s in one process, 19.4 s in two and 17.3 s in four, on two CPUs: one process runs while others
wait. On one CPU two processes take 28.8 s. From 6.8 on there are two processes for each CPU.

Without the manufacturers of devices scapy is imported in 0.14 s of CPU time, with them in 0.19 s (four imports each,
on a busy machine).

To run without pytest's plugin for logging saved nothing that could be measured, and was left out. pytest itself takes
1.2 ms of a case; less than that would need parts of it that are not public.
"""


def main(files: Sequence[Path]) -> int:
    """Take over what the files have, write the page; return the exit status."""
    try:
        known = kept.read(DATA) if DATA.exists() else []
        known = kept.joined([*known, *(run for file in files for run in kept.read(file))])
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    kept.write(DATA, known)
    write_text(PAGE, page(known))
    return 0


def page(runs: Sequence[Bench]) -> str:
    """Return the page's text."""
    return "\n".join([_HEAD, *(line for run in runs for line in _of_run(run)), _FOOT]).rstrip() + "\n"


def _of_run(run: Bench) -> Iterator[str]:
    machine = run.machine
    how = "emulated" if machine.emulated else "natively"
    yield f"## Linux {machine.kernel}, {how}"
    yield ""
    yield f"{machine.processor}, {machine.cpus} CPUs, {machine.memory:,} MiB, {run.day}."
    yield ""
    yield "| what | ratio | asked for | parts |"
    yield "|---|---|---|---|"
    shown = {name for way in WAYS for name in (f"run-time-{way.name}", f"packets-{way.name}")}
    for name, measurement in MEASUREMENTS.items():
        if (rounds := run.rounds.get(name)) is None:
            continue
        ratio = Spread.of(ratios(measurement, rounds))
        bound = measurement.bound(emulated=machine.emulated)
        asked = "" if bound is None else f"{bound}{'' if bound.holds(ratio.median) else ' (missed)'}"
        some = [(one, spread) for one, spread in parts(rounds) if one in measurement.ratio]
        told = "below" if name in shown else "; ".join(f"{one}: {spread}" for one, spread in some)
        unit = f", {measurement.unit}" if told != "below" and measurement.unit else ""
        yield f"| {measurement.says} (`{name}`) | {ratio} | {asked} | {told}{unit} |"
    yield ""
    for name, why in run.failures.items():
        yield f"`{name}` was not measured: {why.splitlines()[0]}"
        yield ""
    yield from _of_spending(run)
    yield from _of_selection(run)


def _of_spending(run: Bench) -> Iterator[str]:
    """Yield what the parts of a round have beside the two of its ratio."""
    if (rounds := run.rounds.get("spending")) is None:
        return
    yield "Where the CPU time of the reference cases goes:"
    yield ""
    yield "| | s | of all |"
    yield "|---|---|---|"
    whole = Spread.of([taken[spending.ALL] for taken in rounds]).median
    rest = [(name, spread) for name, spread in parts(rounds) if name not in MEASUREMENTS["spending"].ratio]
    for name, spread in sorted(rest, key=lambda one: -one[1].median):
        yield f"| {name} | {spread} | {spread.median / whole:.0%} |"
    yield ""


def _of_selection(run: Bench) -> Iterator[str]:
    rows = [
        (f"{way.says}, {kind}", run.rounds[name])
        for kind, start in (("µs a packet", "packets"), ("ns of the program", "run-time"))
        for way in WAYS
        if (name := f"{start}-{way.name}") in run.rounds
    ]
    if not rows:
        return
    yield f"By members of the group: {', '.join(part(size) for size in SIZES)}."
    yield ""
    yield f"| | {' | '.join(part(size) for size in SIZES)} |"
    yield f"|---|{'---|' * len(SIZES)}"
    for says, rounds in rows:
        medians = [Spread.of([taken[part(size)] for taken in rounds]).median for size in SIZES]
        yield f"| {says} | {' | '.join(map(shortly, medians))} |"
    yield ""

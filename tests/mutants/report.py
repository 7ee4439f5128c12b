# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/mutants.md: how many mutants of each file were noticed, and those that were not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .state import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .mutant import Mutant
    from .state import Result

_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause -->
<!-- Written by `tox -e mutants` from tests/mutants/: change what is there. -->
# Which mutants of the programs and of the model do the cases notice?

A mutant is one small edit of a program in `bpf/` or of the model: another comparison, number, operator, field, offset
or order of bytes, a statement less, a branch turned round. For each the cases run that come to the edited line, on the
running kernel, until one fails; it has to fail again. The model's own tests run last, for what no case asks it.

```sh
tox -e mutants                                # all of them, as root
tox -e mutants -- --resume                    # go on where a run ended
tox -e mutants -- bpf/select.h                # those of one file
```
"""


def page(mutants: Sequence[Mutant], results: Mapping[str, Result], reason: Callable[[Mutant], str]) -> str:
    """Return the page; `results` by the mutants' digests, `reason` says why a mutant changes nothing."""
    tried = [mutant for mutant in mutants if mutant.digest in results and results[mutant.digest].outcome.is_mutant]
    equivalent = [mutant for mutant in mutants if reason(mutant)]
    tried = [mutant for mutant in tried if not reason(mutant)]
    killed = [mutant for mutant in tried if results[mutant.digest].outcome.is_kill]
    left = [mutant for mutant in tried if not results[mutant.digest].outcome.is_kill]
    untried = [mutant for mutant in mutants if mutant.digest not in results and not reason(mutant)]
    share = f" ({len(killed) / len(tried):.1%})" if tried else ""
    files = list(dict.fromkeys(mutant.file for mutant in mutants))
    slow = max((results[mutant.digest].seconds for mutant in killed), default=0)
    return "\n".join(
        part
        for part in (
            _HEAD,
            f"Noticed were {len(killed)} of {len(tried)}{share}, the slowest after {slow:.0f} s; "
            f"{len(equivalent)} more change nothing, {len(untried)} were not tried.\n",
            _table(
                "By file",
                "What the compiler refuses, or makes the same instructions of, is no mutant and not counted.\n"
                "One that the first cases did not notice is not tried before all others have run.",
                (
                    "file",
                    "mutants",
                    "noticed by a case",
                    "by a test of the model",
                    "by time",
                    "not noticed",
                    "change nothing",
                    "not tried",
                ),
                (_row(file, mutants, results, reason) for file in files),
            ),
            _table(
                "Not noticed",
                "A case is missing for each of these.",
                ("mutant", "change", ""),
                ([f"`{mutant.name}`", _code(mutant.change), _missed(results[mutant.digest])] for mutant in left),
            ),
            _table(
                "Change nothing",
                "",
                ("mutant", "change", "why"),
                ([f"`{mutant.name}`", _code(mutant.change), reason(mutant)] for mutant in equivalent),
            ),
        )
        if part
    )


def _row(
    file: str, mutants: Sequence[Mutant], results: Mapping[str, Result], reason: Callable[[Mutant], str]
) -> Sequence[str]:
    own = [mutant for mutant in mutants if mutant.file == file]
    plain = [results[mutant.digest] for mutant in own if mutant.digest in results and not reason(mutant)]
    killed = [result for result in plain if result.outcome.is_kill]
    late = sum(result.outcome is Outcome.LATE for result in killed)
    tests = sum(result.case.startswith("tests/") for result in killed if result.outcome is not Outcome.LATE)
    missed = sum(result.outcome.is_mutant and not result.outcome.is_kill for result in plain)
    numbers = (
        sum(result.outcome.is_mutant for result in plain),
        len(killed) - late - tests,
        tests,
        late,
        missed,
        sum(bool(reason(mutant)) for mutant in own),
        sum(mutant.digest not in results and not reason(mutant) for mutant in own),
    )
    return [f"`{file}`", *(str(number or "") for number in numbers)]


def _missed(result: Result) -> str:
    if result.outcome is Outcome.RACE:
        return f"not each time by `{result.case}`"
    return f"{result.tried} cases ran"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|")


def _table(title: str, says: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([f"## {title}\n", *([f"{says}\n"] if says else []), *head, *lines, ""])

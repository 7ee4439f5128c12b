# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mutants: the edits of C and Python, which cases are tried in which order, the runs, the page."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from mutants import __main__ as command
from mutants import c_edits, python_edits, reach, report, running, scope, state, trees
from mutants.mutant import OPERATORS, Edit, Mutant, mutants_of
from mutants.reach import Case, Reach
from mutants.scope import Equivalent, Scope, ScopeError
from mutants.serving import VARIABLE
from mutants.state import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

C = """\
/* SPDX: 1 == 2 */
#include "other.h"
#define HALF(N)      \\
	({           \\
		(N) >> 1; \\
	})
#define MOST 4

enum result {
	DROP_MISC,
	PASS,
};

struct {
	__uint(max_entries, 1);
} a_map SEC(".maps");

static int choose(struct sk_reuseport_md *ctx, int *at)
{
	__u32 len = ctx->len;

	if (!at)
		return DECIDE(DROP_MISC);
	if (len > sizeof(*at) && *at != 3)
		return bpf_ntohs(len);
	*at = 0x10;
	while (len < 8)
		len++;
	note("a == b", at);
	return PASS;
}
"""

PYTHON = '''\
"""Says 1 == 2."""

FIRST = 7


@dataclass(frozen=True)
class A:
    size: int = 32

    def __str__(self) -> str:
        return f"{self.size + 1}"


def rule(view, size: int = 4):
    """Return 1."""
    if view is None or size < 3:
        return Result.PASS
    view.table[0] = size % 8
    world.taken["x"] += 1
    return view.payload[4:5] if not size else int.from_bytes(view, "big")
'''


def changes(module: object, text: str) -> dict[str, list[str]]:
    """Return the changes of each operator."""
    found: dict[str, list[str]] = {}
    for mutant in mutants_of("a", text.encode(), module.edits_of(text.encode())):  # type: ignore[attr-defined]
        found.setdefault(mutant.edit.operator, []).append(f"{mutant.line}: {mutant.change}")
    return found


# ---- the edits ----


def test_edits_of_c_are_of_every_kind_and_leave_comments_strings_and_maps_alone() -> None:
    found = changes(c_edits, C)
    assert set(found) == set(OPERATORS)
    assert found["comparison"] == ["24: > → <", "24: > → >=", "24: != → ==", "27: < → <=", "27: < → >"]
    assert [change.partition(" ")[0] for change in found["constant"]] == ["5:", "7:", "23:", "24:", "26:", "27:", "30:"]
    assert found["constant"][2:5] == ["23: DROP_MISC → PASS", "24: 3 → 4", "26: 0x10 → 0x11"]
    assert found["arithmetic"] == ["5: >> → <<", "28: ++ → --"]
    assert found["logic"] == ["22: ! → nothing", "24: && → ||"]
    assert [change.partition(" ")[0] for change in found["deleted statement"]] == [
        "5:",
        "23:",
        "25:",
        "26:",
        "28:",
        "29:",
    ]
    assert found["swapped branch"] == ["24: if (len > sizeof(*at) && *at != 3) → if (!(len > sizeof(*at) && *at != 3))"]
    assert found["byte order"] == ["25: bpf_ntohs → nothing"]
    assert found["offset"] == ["24: sizeof(*at) → (sizeof(*at) + 1)"]
    assert found["wrong field"] == ["20: len → hash"]


def test_edits_of_python_leave_words_types_and_counts_alone() -> None:
    assert changes(python_edits, PYTHON) == {
        "constant": ["3: 7 → 8", "8: 32 → 33", "14: 4 → 5", "16: 3 → 4", "17: PASS → DROP_MISC", "18: 8 → 9"],
        "comparison": ["16: is → is not", "16: < → <=", "16: < → >"],
        "logic": ["16: or → and", "20: not → nothing"],
        "swapped branch": ["16: view is None or size < 3 → (not (view is None or size < 3))"],
        "deleted statement": ["17: return Result.PASS → pass", "18: view.table[0] = size % 8 → pass"],
        "arithmetic": ["18: % → //"],
        "offset": ["20: 4 → 5", "20: 5 → 6"],
        "byte order": ['20: "big" → "little"'],
    }


def test_what_a_decorator_does_runs_at_import() -> None:
    text = """\
def enter(function):
    TABLE[1] = function
    return function


def other(function):
    TABLE[2] = function


@enter
def rule():
    return 3
"""
    edits = mutants_of("a.py", text.encode(), python_edits.edits_of(text.encode()))
    at_import = {one.line: one.edit.at_import for one in edits}
    assert at_import == {2: True, 7: False, 12: False}


def test_lines_stay_where_they_are_and_only_the_edit_is_new() -> None:
    for module, text in ((c_edits, C), (python_edits, PYTHON)):
        for mutant in mutants_of("a", text.encode(), module.edits_of(text.encode())):
            changed = mutant.apply(text.encode()).decode()
            assert changed.count("\n") == text.count("\n")
            assert changed != text


def test_a_mutant_keeps_its_number_when_lines_come_above_it() -> None:
    def numbers(text: str) -> list[str]:
        return [one.digest for one in mutants_of("a.py", text.encode(), python_edits.edits_of(text.encode()))]

    assert numbers("# new\n" + PYTHON) == numbers(PYTHON)
    assert len(set(numbers(PYTHON + PYTHON))) == 2 * len(numbers(PYTHON)), "alike, and at another place"


def test_there_are_mutants_of_every_kind_and_more_than_two_hundred() -> None:
    mutants = scope.generate(ROOT, scope.load(ROOT).files)
    assert len(mutants) > 200
    assert {mutant.edit.operator for mutant in mutants} == set(OPERATORS)
    assert len({mutant.digest for mutant in mutants}) == len(mutants)


# ---- the scope ----


def test_every_equivalent_is_of_a_mutant_and_has_a_reason() -> None:
    known = scope.load(ROOT)
    mutants = scope.generate(ROOT, known.files)
    assert [one for one in known.equivalents if not any(map(one.covers, mutants))] == []
    assert [one for one in known.equivalents if len(one.reason) < 10] == []


def test_mutants_are_chosen_by_file_directory_line_and_number() -> None:
    mutants = scope.generate(ROOT, ["bpf/key.h", "bpf/hash.h", "harness/model/fate.py"])
    assert {one.file for one in scope.choose(mutants, ["bpf"])} == {"bpf/key.h", "bpf/hash.h"}
    assert {one.file for one in scope.choose(mutants, ["bpf/key.h"])} == {"bpf/key.h"}
    first = mutants[0]
    assert first in scope.choose(mutants, [first.name])
    assert scope.choose(mutants, [first.digest]) == [first]
    with pytest.raises(ScopeError, match=r"no mutant is of bpf/kex\.h"):
        scope.choose(mutants, ["bpf/kex.h"])


def test_an_equivalent_may_leave_parts_of_the_text_open() -> None:
    mutant = mutants_of("a", b"x[0] = 1;", [Edit(start=7, end=8, new="2", operator="constant")])[0]
    same = Equivalent(file="a", text="x[*] = *", change="1 → 2", reason="nobody reads it")
    assert same.covers(mutant)
    assert not Equivalent(file="a", text="x[*] = *", change="2 → 3", reason="nobody reads it").covers(mutant)


# ---- which cases ----


def mutant_of(file: str, line: int = 3, *, at_import: bool = False) -> Mutant:
    edit = Edit(start=0, end=1, new="2", operator="constant", at_import=at_import)
    return Mutant(file=file, edit=edit, line=line, text="x = 1", old="1", place=0)


CASES = (
    Case(id="cases/a.py::test_a[1]", seconds=0.1, variants=frozenset({"reference"}), lines={"m.py": frozenset({3})}),
    Case(id="cases/a.py::test_a[2]", seconds=0.1, variants=frozenset({"reference"}), lines={"m.py": frozenset({3, 9})}),
    Case(id="cases/b.py::test_b", seconds=0.5, variants=frozenset({"by_cpu"}), lines={"m.py": frozenset({3})}),
    Case(id="tests/unit/c.py::test_c", seconds=0.0, variants=frozenset(), lines={"m.py": frozenset({3})}),
)


def names(cases: list[Case]) -> list[str]:
    return [case.id.rpartition("::")[2] for case in cases]


def test_cases_that_run_the_line_are_tried_each_function_once_before_the_next_parameters() -> None:
    learnt = Reach(cases=CASES, sources={})
    tried = names(learnt.order(mutant_of("m.py")))
    assert {tried[0][:6], tried[1]} == {"test_a", "test_b"}
    assert tried[2][:6] == "test_a"
    assert tried[3] == "test_c", "a test of the model alone comes last"
    assert names(learnt.order(mutant_of("m.py", 9))) == ["test_a[2]"]
    assert names(learnt.order(mutant_of("m.py", 11))) == ["test_a[2]"], "the statement begins on line 9"
    assert names(learnt.order(mutant_of("m.py"), first=["tests/unit/c.py::test_c", "gone"]))[0] == "test_c"
    assert names(learnt.order(mutant_of("other.py"))) == []
    assert len(learnt.order(mutant_of("other.py", at_import=True))) == 4, "any case may depend on it"
    assert learnt.as_run(mutant_of("m.py")) == mutant_of("m.py")
    assert learnt.as_run(mutant_of("other.py")) == mutant_of("other.py", at_import=True), "no case is seen to run it"
    assert learnt.as_run(mutant_of("bpf/select.h")) == mutant_of("bpf/select.h")
    model = {"other.py": ["", "", "SIZE = 1"], "m.py": [*[""] * 8, "return SIZE"]}
    knowing = Reach(cases=CASES, sources={}, model=model)
    tried = names(knowing.order(mutant_of("other.py", at_import=True)))
    assert tried == ["test_a[2]", "test_c"], "which runs line 9, and then the tests of the model"


def test_cases_of_an_entry_are_those_that_load_the_variant() -> None:
    model = {"v.py": ["_TABLE = (", "    Variant(", '        name="by_cpu",', "        key_size=8,"]}
    knowing = Reach(cases=CASES, sources={}, model=model)
    assert names(knowing.order(mutant_of("v.py", 4, at_import=True))) == ["test_b", "test_c"]


def test_cases_of_a_program_are_those_that_load_what_is_compiled_from_the_file() -> None:
    texts = {"a.bpf.c": '#include "key.h"\n', "b.bpf.c": "", "key.h": '#include "select.h"\n', "select.h": ""}
    sources = reach.sources_of({"by_cpu": "a.bpf.c", "reference": "b.bpf.c"}, texts)
    assert sources == {
        "bpf/a.bpf.c": {"by_cpu"},
        "bpf/key.h": {"by_cpu"},
        "bpf/select.h": {"by_cpu"},
        "bpf/b.bpf.c": {"reference"},
    }
    assert names(Reach(cases=CASES, sources=sources).order(mutant_of("bpf/select.h"))) == ["test_b"]


# ---- the runs ----

SMALL_CASES = """
from harness.model.spread import band

def test_one_member_has_all():
    assert band(10, 1) == (10, 10)

def test_two_members_share():
    low, high = band(100, 2)
    assert low + high == 100
    assert 10 < low < 50
"""
NOTICED = "    if members == 1:", "== → !="
ENDLESS = "        low += 1", "low += 1 → pass"
AT_IMPORT = "CHANCE = 1e-9", "1e-9 → 2e-09"
MISSED = "    most = CHANCE / 2 / members", "2 → 3"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project with two cases, which needs no root."""
    root = tmp_path / "project"
    for name in ("bpf", "harness", "vm", "tests/mutants"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "cases").mkdir()
    (root / "cases/test_small.py").write_text(SMALL_CASES)
    reason = Equivalent(
        file="harness/model/spread.py", text="share = 1 / members", change="1 → 2", reason="any small one will do"
    )
    known = Scope(files=("harness/model/spread.py",), tests=(), equivalents=(reason,))
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(command, "missing_requirement", lambda: None)
    monkeypatch.setattr(command, "compile_variants", dict)
    monkeypatch.setattr(command, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(running, "_PATIENCE_WITHOUT_COMPILER", 3.0)
    monkeypatch.setattr(scope, "load", lambda _: known)
    return root


def number_of(root: Path, text: str, change: str) -> str:
    mutants = scope.generate(root, ["harness/model/spread.py"])
    (found,) = (one.digest for one in mutants if (one.text, one.change) == (text.strip(), change))
    return found


def test_mutants_are_tried_resumed_and_reported(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {name: number_of(project, *name) for name in (NOTICED, ENDLESS, MISSED, AT_IMPORT)}
    assert command.main(["--workers", "1", *wanted.values()]) == command.EXIT_SURVIVORS
    results = state.read(tmp_path / "results.jsonl")
    outcomes = {name: results[number].outcome for name, number in wanted.items()}
    missed = dict.fromkeys((MISSED, AT_IMPORT), Outcome.SURVIVED)
    assert outcomes == {NOTICED: Outcome.FAILED, ENDLESS: Outcome.LATE} | missed
    assert results[wanted[ENDLESS]].case == "cases/test_small.py::test_two_members_share"
    assert results[wanted[MISSED]].tried == 1, "the other case does not come to the line"
    assert results[wanted[AT_IMPORT]].tried == 1, "only one case comes to a line that has its name"
    said = capsys.readouterr().err
    assert "cases/test_small.py: 2 cases" in said
    assert "noticed: 2 of 4" in said
    page = (tmp_path / "page.md").read_text()
    assert "Noticed were 2 of 4 (50.0%)" in page
    assert "any small one will do" in page
    # A run that was cut off, as it wrote what it had come to know.
    with (tmp_path / "cache/mutants/journal.jsonl").open("a") as journal:
        journal.write('{"digest": "0')
    assert command.main(["--workers", "1", "--resume", *wanted.values()]) == command.EXIT_SURVIVORS
    said = capsys.readouterr().err
    assert "0 mutants to try of 4" in said


def test_the_tree_has_the_mutant_for_a_while_and_other_times_for_each(project: Path) -> None:
    path = project / "harness/model/spread.py"
    before, times = path.read_bytes(), []
    mutants = scope.generate(project, ["harness/model/spread.py"])
    for number, mutant in enumerate(mutants[:2]):
        with trees.planted(project, mutant, number=number):
            assert path.read_bytes() == mutant.apply(before)
            times.append(path.stat().st_mtime)
        assert path.read_bytes() == before
    assert len({*times, path.stat().st_mtime}) == 3, "or Python takes the bytecode of the one for that of the other"


def test_the_compiler_may_make_the_same_of_a_mutant(project: Path) -> None:
    mutants = {(one.text, one.change): one for one in scope.generate(ROOT, ["bpf/by_cpu.bpf.c", "bpf/key.h"])}
    other = mutants["*index = key % *size;", "% → /"]
    with trees.planted(project, other, number=1):
        assert not trees.makes_the_same(project, ROOT, ["by_cpu"])
    assert trees.makes_the_same(project, ROOT, ["by_cpu"])


SERVING = """
import os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from tests.mutants.serving import serve

def become(job):
    with open(job["started"], "w") as file:
        file.write(f"{os.getpid()} {subprocess.Popen(['sleep', '600']).pid}")
    os.rename(job["started"], job["ready"])
    time.sleep(600)

serve(become)
"""


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, list[int]]]:
    """Yield a server that does a job of ten minutes, the end that jobs are written to, and the job's processes."""
    jobs, to_jobs = os.pipe()
    from_answers, answers = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, str(ROOT)],
        pass_fds=(jobs, answers),
        env={**os.environ, VARIABLE: f"{jobs},{answers}"},
        start_new_session=True,
    )
    os.close(jobs)
    os.close(answers)
    job = {"seconds": 600, "log": str(directory / "log"), "cache": ""}
    names = {"started": str(directory / "started"), "ready": str(directory / "ready")}
    os.write(to_jobs, (json.dumps({**job, **names}) + "\n").encode())
    wait_until((directory / "ready").exists)
    try:
        yield process, to_jobs, [int(number) for number in (directory / "ready").read_text().split()]
    finally:
        process.kill()
        process.wait()
        os.close(from_answers)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "in 20 seconds nothing came of it"
        time.sleep(0.02)


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("way", ["terminated", "abandoned"])
def test_a_process_that_runs_cases_ends_with_them_when_the_run_does(tmp_path: Path, way: str) -> None:
    with serving(tmp_path) as (process, jobs, of_the_job):
        assert not any(map(has_ended, of_the_job))
        if way == "terminated":
            process.terminate()
            process.wait(timeout=20)
            os.close(jobs)
        else:  # as by a run that was killed, and tells nobody
            os.close(jobs)
            process.wait(timeout=20)
        wait_until(lambda: all(map(has_ended, of_the_job)))


# ---- the command and the page ----


@pytest.mark.parametrize(
    ("arguments", "says"), [(["bpf/none.h"], "no mutant is of bpf/none.h"), (["bpf/key.h"], "this needs root")]
)
def test_what_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.setattr(command, "missing_requirement", lambda: "this needs root")
    assert command.main(arguments) == command.EXIT_USAGE
    assert says in capsys.readouterr().err


def test_mutants_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "bpf/key.h"]) == 0
    assert "bpf/key.h:27" in capsys.readouterr().out


def result(mutant: Mutant, outcome: Outcome, case: str = "") -> Result:
    return Result(digest=mutant.digest, mutant=mutant.name, change=mutant.change, outcome=outcome, case=case, tried=7)


def test_the_page_counts_by_file_and_lists_what_was_not_noticed() -> None:
    mutants = scope.generate(ROOT, ["bpf/key.h"])[:7]
    outcomes = [
        (Outcome.FAILED, "cases/a.py::test_a"),
        (Outcome.FAILED, "tests/unit/a.py::test_a"),
        (Outcome.LATE, "cases/a.py::test_a"),
        (Outcome.SURVIVED, ""),
        (Outcome.SAME, ""),
        (Outcome.SURVIVED, ""),
    ]
    results = {mutant.digest: result(mutant, *outcome) for mutant, outcome in zip(mutants, outcomes, strict=False)}
    page = report.page(mutants, results, lambda mutant: "it may" if mutant is mutants[5] else "")
    assert "Noticed were 3 of 4 (75.0%)" in page
    assert "1 more change nothing, 1 were not tried" in page
    assert "| `bpf/key.h` | 4 | 1 | 1 | 1 | 1 | 1 | 1 |" in page
    assert f"| `{mutants[3].name}` |" in page
    assert "7 cases ran" in page


def test_the_page_is_that_of_the_results() -> None:
    known = scope.load(ROOT)
    mutants = scope.generate(ROOT, known.files)
    assert command.PAGE.read_text() == report.page(mutants, state.read(command.RESULTS), known.reason)

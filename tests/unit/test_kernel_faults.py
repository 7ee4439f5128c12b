# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The faults that are planted into kernels: the table, the planting, the order of cases, the files, the page."""

from __future__ import annotations

import io
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.interface.marks import marked
from vm.base.errors import NotAKernelError
from vm.kernels.local import TREE_IMAGE

sys.path.insert(0, str(Path(__file__).parents[1]))
from kernel_faults import __main__ as command
from kernel_faults import guest, guests, reach, report, state, table, trees
from kernel_faults.ordering import Case, stages
from kernel_faults.planting import DEFINITION, HEADER, PARAMETER, find_function, plant
from kernel_faults.reach import Reach
from kernel_faults.state import Outcome, Result
from kernel_faults.table import Edit, Fault, TableError
from kernel_faults.trees import plant_tree

TEXT = """\
// SPDX
#include <net/sock.h>

static int other(int a);
static int first(int a)
{
	if (a >= 0)
		return first_of(a,
				3);
	a++;
	return -EINVAL;
}

BPF_CALL_4(second, struct sk *, sk, int, b,
	int, a)
{
	return a >= 0;
}
"""


def fault(name: str = "a", number: int = 7, *, also: tuple[Edit, ...] = (), **other: str) -> Fault:
    fields = {"file": "net/a.c", "function": "first", "operator": "wrong constant", "old": "a >= 0", "new": "a > 0"}
    return Fault(name=name, number=number, breaks=("select.index",), also=also, **{**fields, **other})


def edit(**other: str) -> Edit:
    return Edit(**{"file": "net/a.c", "function": "second", "old": "a >= 0", "new": "a > 1", **other})


def planted_text(*faults: Fault) -> str:
    planted = plant({"net/a.c": TEXT}, faults)
    assert not planted.refused
    return planted.texts["net/a.c"]


# ---- the table ----


def test_faults_are_of_every_kind_and_break_promises_that_cases_check() -> None:
    faults = table.load()
    assert len(faults) >= 120
    assert set(table.OPERATORS) == set(Counter(one.operator for one in faults))
    promises = set(marked("promise"))
    assert {one.name: set(one.breaks) - promises for one in faults if set(one.breaks) - promises} == {}


def test_numbers_are_each_one_s_own() -> None:
    faults = table.load()
    assert [one.number for one in faults] == list(range(1, len(faults) + 1))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('operator = "sabotage"\nold = "a"\nnew = "b"', "no operator 'sabotage'"),
        ('operator = "leak"\nold = "a"', "new"),
        ('operator = "leak"\nold = "a"\nnew = "b"\npart = "c"', "part"),
        ('operator = "leak"\nold = "a"\nnew = "b"\nalso = [{in = "c", old = "a", new = "b", part = "c"}]', "part"),
        ('operator = "leak"\nold = "a"\nnew = "b"\nseen_by = "nobody"', "nothing is called 'nobody'.*kasan"),
    ],
)
def test_an_entry_that_is_wrong_is_named(tmp_path: Path, entry: str, says: str) -> None:
    (tmp_path / "a.toml").write_text(f'file = "net/a.c"\n[odd]\nin = "first"\nbreaks = ["select.index"]\n{entry}\n')
    with pytest.raises(TableError, match=f"odd.*{says}"):
        table.load(tmp_path)


def test_further_edits_are_of_the_same_file_unless_they_say_so(tmp_path: Path) -> None:
    also = '{ in = "second", old = "b", new = "c" }, { file = "net/b.c", in = "third", old = "d", new = "e" }'
    entry = f'in = "first"\nbreaks = ["select.index"]\noperator = "leak"\nold = "a"\nnew = "b"\nalso = [{also}]\n'
    (tmp_path / "a.toml").write_text(f'[odd]\nfile = "net/a.c"\n{entry}')
    (one,) = table.load(tmp_path)
    places = [(edit.file, edit.function) for edit in one.edits]
    assert places == [("net/a.c", "first"), ("net/a.c", "second"), ("net/b.c", "third")]
    assert one.digest != replace(one, also=one.also[:1]).digest


# ---- planting ----


def test_an_expression_stays_beside_the_wrong_one() -> None:
    text = planted_text(fault())
    assert "if ((FAULT(7) ? (a > 0) : (a >= 0)))" in text
    assert "return a >= 0;" in text, "another function has the same text"
    assert text.index(f"#include <net/{PARAMETER}.h>") < text.index("#include <net/sock.h>")


def test_a_statement_is_switched_off_and_white_space_is_any() -> None:
    assert "{ if (FAULT(7)) {  } else { a++; } }" in planted_text(fault(old="a++;", new=""))
    text = planted_text(fault(old="return first_of(a, 3);", new="return 1;"))
    assert "{ if (FAULT(7)) { return 1; } else { return first_of(a,\n\t\t\t\t3); } }" in text


def test_a_condition_is_switched_and_its_body_stays() -> None:
    text = planted_text(fault(old="if (a >= 0) return", part="if (a >= 0)", new="if (1)"))
    assert "if (FAULT(7) ? !!(1) : !!(a >= 0))\n\t\treturn" in text


def test_faults_of_one_text_and_inside_of_each_other_nest() -> None:
    text = planted_text(
        fault(), fault("b", 8, new="0"), fault("c", 9, old="if (a >= 0) return first_of(a, 3);", new="return 2;")
    )
    assert "(FAULT(8) ? (0) : ((FAULT(7) ? (a > 0) : (a >= 0))))" in text
    assert text.index("FAULT(9)") < text.index("FAULT(8)")


def test_faults_that_overlap_are_refused_by_name_and_the_others_planted() -> None:
    faults = [
        fault(old="if (a >= 0) return", part="0) return", new="1) return"),
        fault("b", 8, old="a >= 0)", new="1)"),
    ]
    planted = plant({"net/a.c": TEXT}, faults)
    assert [one.name for one in planted.faults] == ["a"]
    assert "within that of another fault: 0) return" in planted.refused["b"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (fault("odd", old="a < 0"), "0 times"),
        (fault("odd", old="a"), "times, and not once"),
        (fault("odd", function="third"), "0 functions third"),
        (fault("odd", file="net/b.c"), "no net/b.c"),
    ],
)
def test_a_text_that_is_not_there_once_is_named_and_the_others_go_on(wrong: Fault, says: str) -> None:
    planted = plant({"net/a.c": TEXT}, [wrong, fault()])
    assert list(planted.refused) == ["odd"]
    assert says in planted.refused["odd"]
    assert "FAULT(7) ?" in planted.texts["net/a.c"]


def test_all_edits_of_a_fault_are_planted_or_none() -> None:
    text = planted_text(fault(also=(edit(),)), fault("b", 8))
    assert "(FAULT(8) ? (a > 0) : ((FAULT(7) ? (a > 0) : (a >= 0))))" in text
    assert "return (FAULT(7) ? (a > 1) : (a >= 0));" in text
    planted = plant({"net/a.c": TEXT}, [fault("odd", also=(edit(), edit(file="net/b.c"))), fault("b", 8)])
    assert list(planted.refused) == ["odd"]
    assert "FAULT(7)" not in planted.texts["net/a.c"]
    assert "FAULT(8)" in planted.texts["net/a.c"]


def test_functions_are_found_behind_prototypes_and_macros() -> None:
    start, end = find_function(TEXT, "second")
    assert TEXT[start:end].startswith("BPF_CALL_4(second,")
    assert TEXT[start:end].endswith("return a >= 0;\n}")


# ---- trees ----


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree of two files."""
    tree = tmp_path / "tree"
    (tree / "net/core").mkdir(parents=True)
    (tree / "include/net").mkdir(parents=True)
    (tree / DEFINITION).write_text("#include <net/sock.h>\n")
    (tree / "net/a.c").write_text(TEXT)
    return tree


def test_a_tree_is_left_alone_and_only_what_changes_is_written(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    plant_tree(tree, copy, [fault()])
    assert (tree / "net/a.c").read_text() == TEXT
    assert "FAULT(7)" in (copy / "net/a.c").read_text()
    assert "core_param" in (copy / DEFINITION).read_text()
    before = (copy / HEADER).stat()
    plant_tree(tree, copy, [fault(new="a > 1")])
    assert (copy / HEADER).stat().st_ino == before.st_ino
    assert "a > 1" in (copy / "net/a.c").read_text()


def test_a_tree_goes_when_its_archive_was_updated(tmp_path: Path) -> None:
    """An update of linux-source has older files than the objects of the last build: make would leave those."""
    archive, work = tmp_path / "linux-source-6.1.tar", tmp_path / "work"
    work.mkdir()

    def pack(text: str) -> None:
        with tarfile.open(archive, "w") as packed:
            entry = tarfile.TarInfo("linux-source-6.1/Makefile")
            entry.size, entry.mtime = len(text), 1
            packed.addfile(entry, io.BytesIO(text.encode()))

    pack("176")
    tree = trees.unpack(archive, work, progress=print)
    built = [work / trees.PLANTED / "x", work / trees.BUILD / "x", work / f"{trees.BUILD}-kasan" / "x"]
    for file in built:
        file.parent.mkdir()
        file.touch()
    assert trees.unpack(archive, work, progress=print) == tree
    assert all(file.exists() for file in built)
    pack("192")
    assert (trees.unpack(archive, work, progress=print) / "Makefile").read_text() == "192"
    assert not any(file.exists() for file in built)


def test_a_tree_that_was_built_in_place_is_refused_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    (tree / ".config").write_text("")
    with pytest.raises(NotAKernelError, match=r"has \.config.*mrproper"):
        plant_tree(tree, tmp_path / "copy", [fault()])


def test_a_kernel_is_built_again_only_for_other_faults(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []

    def build(copy: Path, *, output: Path, **_: object) -> None:
        builds.append(copy)
        (output / TREE_IMAGE).parent.mkdir(parents=True, exist_ok=True)
        (output / TREE_IMAGE).write_text("")

    monkeypatch.setattr(trees, "build", build)
    for count, new in enumerate(["a > 0", "a > 0", "a > 1"], 1):
        planted = plant_tree(tree, tmp_path / "copy", [fault(new=new)])
        assert trees.build_once(tmp_path / "copy", tmp_path / "out", planted, progress=print).exists()
        assert len(builds) == (count + 1) // 2


# ---- the order ----


def cases(*named: tuple[str, str]) -> list[Case]:
    return [Case(id=id_, promises=(promise,)) for id_, promise in named]


def test_what_noticed_before_runs_first_then_the_promise_the_topic_and_the_rest() -> None:
    some = cases(
        ("x", "bind.matrix"), ("near", "select.drop"), ("f[1]", "select.index"), ("f[2]", "select.index"),
        ("g[1]", "select.index"), ("broken", "select.index"), ("known", "bind.matrix"),
    )  # fmt: skip
    three = stages(fault(), some, killers=["known", "gone"], excluded={"broken"}, reach=Reach())
    ids = [[some[place].id for place in stage] for stage in three]
    assert ids == [["known", "f[1]", "g[1]", "f[2]"], ["near", "x"], []]


def reach_of(**cases: tuple[str, str, float]) -> Reach:
    """Return the reach of cases, each with what its setup and it itself come to, and its seconds."""
    said = [
        {"case": place, "setup": setup, "own": own, "seconds": seconds}
        for place, (setup, own, seconds) in enumerate(cases.values())
    ]
    return reach.from_guest(said, cases=dict(enumerate(cases)), faults=[fault()])


def test_cases_that_do_not_come_to_a_fault_run_last_and_only_if_a_fixture_does() -> None:
    some = cases(("a", "select.index"), ("b", "select.index"), ("c", "select.drop"), ("d", "bind.matrix"))
    there = reach_of(a=("", "1-3,9", 1), b=("", "6-8", 3), c=("", "7", 1), d=("", "", 1))
    assert stages(fault(), some, killers=[], excluded=(), reach=there) == ([1], [2], [])
    there = reach_of(a=("7", "", 2), b=("", "7", 1), c=("", "", 1), d=("", "", 1))
    assert stages(fault(), some, killers=[], excluded=(), reach=there) == ([1, 0], [], [2, 3])
    assert stages(fault(new="another"), some, killers=[], excluded=(), reach=there)[0] == [1, 0]


def test_cases_of_the_promise_run_first_though_another_case_made_what_they_share() -> None:
    """A case did not come to the code because what it uses was there; in a VM of its own it makes that itself."""
    some = cases(("a", "select.index"), ("b", "select.drop"), ("c", "bind.matrix"))
    there = reach_of(a=("", "1", 1), b=("7", "", 1), c=("", "", 1))
    assert stages(fault(), some, killers=[], excluded=(), reach=there) == ([0], [1], [2])


def test_what_cases_come_to_holds_for_a_fault_under_another_name() -> None:
    some = cases(("a", "select.index"), ("b", "select.index"))
    there = reach_of(a=("", "7", 1), b=("", "", 1))
    assert stages(replace(fault(), name="renamed"), some, killers=[], excluded=(), reach=there) == ([0], [], [])


def test_reach_comes_back_from_its_file(tmp_path: Path) -> None:
    there = reach_of(a=("7", "", 2), b=("", "7", 1))
    reach.write(tmp_path / "reach.json", there)
    assert reach.read(tmp_path / "reach.json") == there
    assert reach.read(tmp_path / "none") == Reach()
    (tmp_path / "reach.json").write_text('{"cases": {}, "faults": ["a-name"]}')
    assert reach.read(tmp_path / "reach.json") == Reach()


# ---- files ----


def result(name: str = "a", **other: object) -> Result:
    fields = {"digest": fault().digest, "release": "6.1.1", "outcome": Outcome.FAILED, "case": "cases/t.py::t"}
    return Result(fault=name, **{**fields, **other})  # type: ignore[arg-type]


def test_results_come_back_from_a_journal_that_was_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "new/journal.jsonl"
    state.append(journal, result(outcome=Outcome.RACE))
    state.append(journal, result())
    state.append(journal, result("b"))
    whole = journal.read_text()
    journal.write_text(whole[:-20])
    assert state.read(journal) == {"a": result()}
    assert state.read(tmp_path / "none") == {}


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    state.write(path, [result("b"), result()])
    assert list(state.read(path)) == ["a", "b"]
    with pytest.raises(TypeError):
        state.write(path, [result(case=object())])
    assert list(state.read(path)) == ["a", "b"]
    assert list(tmp_path.iterdir()) == [path]


# ---- the page ----


def test_page_tells_the_noticed_the_missed_and_the_equivalent_apart() -> None:
    plain = [fault(), fault("b"), fault("c"), fault("e")]
    faults = [*plain, fault("d", equivalent="nobody reads it"), fault("f", seen_by="kasan")]
    results = {
        "a": result(outcome=Outcome.PANIC),
        "b": result("b", outcome=Outcome.SURVIVED),
        "c": result("c", outcome=Outcome.RACE),
        "e": result("e", digest="of an edit that is another now"),
        "f": result("f", outcome=Outcome.SPLAT),
    }
    page = report.page(faults, results)
    assert (
        "Tried were 3 of 4, on Linux 6.1.1: the suite noticed 1 of 3 (33.3%), and 1 only by a race. Left open: 0."
        in page
    )
    assert "Not tried, as nothing can tell them: 1; as they take another kernel to see: 1." in page
    sections = {part.partition("\n")[0]: part for part in page.split("## ")[1:]}
    assert "`b`" in sections["Not noticed"]
    assert "`c`" in sections["Not noticed"]
    assert "nobody reads it" in sections["Equivalent"]
    assert "| kasan | splat, by a splat, during `t.py::t` |" in sections["Seen elsewhere"]
    assert "`f`" not in sections["Noticed"]
    assert "by a panic, during `t.py::t`" in sections["Noticed"]
    assert "`e`" in sections["Not tried"]


# ---- the worker, and the run: processes of this machine in the place of VMs ----

CASES = """\
import os, time
from pathlib import Path
import pytest

on = lambda: Path(os.environ["REUSEPORT_FAULT"]).read_text().strip()

@pytest.mark.promise("select.index")
def test_index():
    assert on() not in ("1", "4"), "another member"
    told = Path(os.environ["REUSEPORT_FAULT"] + ".told")
    assert on() != "6" or told.exists() or told.touch(), "told once"

@pytest.mark.promise("select.drop")
def test_drop():
    if on() == "2":
        time.sleep(1)  # for the worker to pass on which case begins
        os.killpg(os.getppid(), 9)  # the guest is gone
        os._exit(0)

@pytest.mark.promise("bind.matrix")
def test_race():
    tries = Path(os.environ["REUSEPORT_FAULT"] + ".tries")
    tries.write_text(tries.read_text() + "+" if tries.exists() else "+")
    assert on() != "3" or len(tries.read_text()) % 2

def test_broken(): assert 0
"""


@pytest.fixture
def here(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the command run cases of this test's own, in processes in the place of VMs."""
    (tmp_path / "fault").write_text("0")
    (tmp_path / "test_few.py").write_text(CASES)
    monkeypatch.setenv("REUSEPORT_FAULT", str(tmp_path / "fault"))
    worker = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-q", "-q"]
    plugins = ["-p", "tests.kernel_faults.guest", "-p", "no:cacheprovider", "-o", "markers=promise(ids)"]
    monkeypatch.setattr(guests, "command", lambda *_: [*worker, *plugins, str(tmp_path)])
    monkeypatch.setattr(guests, "prepare", lambda _: None)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(trees, "build_once", lambda *_, **__: tree / "net/a.c")
    monkeypatch.setattr(command, "read_release", lambda _: "6.1.1")
    names = ("wrong-index", "ends-the-vm", "races", "survives", "equal", "in-memory")
    faults = tuple(fault(name, number) for number, name in enumerate(names, 1))
    faults = (
        *faults[:3],
        replace(faults[3], number=9),
        replace(faults[4], equivalent="it is the same"),
        replace(faults[5], seen_by="kasan"),
    )
    monkeypatch.setattr(table, "load", lambda: faults)
    return tmp_path


def test_faults_are_planted_built_tried_and_reported(
    here: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", str(tree), "--output", str(here / "work"), "--vms", "1"]
    assert command.main(arguments) == command.EXIT_SURVIVORS
    results = state.read(here / "results.jsonl")
    assert {name: one.outcome for name, one in results.items()} == {
        "wrong-index": Outcome.FAILED,
        "ends-the-vm": Outcome.PANIC,
        "races": Outcome.RACE,
        "survives": Outcome.SURVIVED,
    }
    assert results["wrong-index"].case.endswith("test_index")
    assert "another member" in results["wrong-index"].why
    assert results["ends-the-vm"].case.endswith("test_drop")
    assert "noticed 2 of 4" in (here / "page.md").read_text()
    assert "with no fault on: 1 cases fail" in capsys.readouterr().err
    assert command.main([*arguments, "--resume"]) == command.EXIT_SURVIVORS
    assert "0 faults to try of 4" in capsys.readouterr().err
    assert command.main([*arguments, "wrong-index"]) == 0
    assert "no fault on" not in capsys.readouterr().err, "it ran on this kernel before"
    assert set(state.read(here / "work/journal.jsonl")) == {*results, "(none)"}, (
        "one that is named takes no other's place"
    )


def test_a_quick_run_leaves_open_what_the_cases_of_the_promise_do_not_notice(
    here: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", str(tree), "--output", str(here / "work"), "--vms", "1", "--quick"]
    assert command.main(arguments) == command.EXIT_SURVIVORS
    outcomes = {name: one.outcome for name, one in state.read(here / "results.jsonl").items()}
    assert outcomes.pop("wrong-index") is Outcome.FAILED
    assert outcomes == dict.fromkeys(("ends-the-vm", "races", "survives"), Outcome.OPEN)
    said = capsys.readouterr().err
    assert "survives: left open" in said
    assert "no fault on" not in said


def test_a_debug_kernel_is_tried_with_what_it_alone_sees_and_tells_of_it_once(
    here: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[Path, list[str]]] = []

    def build_once(_: Path, output: Path, *__: object, flavours: list[str], **___: object) -> Path:
        built.append((output, flavours))
        return tree / "net/a.c"

    manners: list[guests.Manner] = []
    command_here = guests.command

    def noted(kernel: Path, manner: guests.Manner) -> list[str]:
        manners.append(manner)
        return command_here(kernel, manner)

    monkeypatch.setattr(guests, "command", noted)
    monkeypatch.setattr(trees, "build_once", build_once)
    arguments = ["--source", str(tree), "--output", str(here / "work"), "--vms", "1"]
    assert command.main([*arguments, "--flavour", "lockdep", "--flavour", "kasan"]) == 0
    (manner,) = set(manners)
    assert " ".join(manner.vm) == "--memory 2048 --append kasan_multi_shot no5lvl maxcpus=2"
    assert manner.pytest == ("--race-seconds", "10")
    assert built == [(here / "work/build-kasan-lockdep", ["kasan", "lockdep"])]
    results = state.read(here / "results.jsonl")
    assert {name: (one.outcome, one.why) for name, one in results.items()} == {
        "in-memory": (Outcome.FAILED, "call: AssertionError: told once")
    }
    assert "| kasan | failed case, `test_few.py::test_index` |" in (here / "page.md").read_text()


def test_a_run_that_was_cut_off_resumes(here: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", str(tree), "--output", str(here / "work"), "--vms", "1"]
    state.append(here / "work/journal.jsonl", result("wrong-index"))
    assert command.main([*arguments, "--resume", "wrong-index", "survives"]) == command.EXIT_SURVIVORS
    said = capsys.readouterr().err
    assert "1 faults to try of 2" in said
    assert state.read(here / "results.jsonl")["survives"].outcome is Outcome.SURVIVED


def test_a_guest_that_does_not_come_up_is_said(
    here: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guests, "command", lambda *_: ["sh", "-c", "echo error: no such kernel; exit 12"])
    arguments = ["--source", str(tree), "--output", str(here / "work"), "--vms", "1"]
    assert command.main(arguments) == command.EXIT_INFRASTRUCTURE
    assert "no such kernel" in capsys.readouterr().err


# ---- the command ----


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert "members-not-counted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "no fault is called nonsense"),
        (["--source", "/nowhere"], "/nowhere is missing: run './bootstrap tox"),
    ],
)
def test_what_cannot_be_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert command.main(arguments) == command.EXIT_USAGE
    assert says in capsys.readouterr().err


def test_complaint_is_found_in_a_report_that_begins_with_an_empty_line() -> None:
    """As lockdep's reports do."""
    said = ["", "=============================", "WARNING: suspicious RCU usage", "6.1.192 #1 Not tainted"]
    records = [f"4,{800 + number},9000,-;{line}\n" for number, line in enumerate(said)]
    assert [guest.complaint_of(record) for record in records] == ["", "", said[2], ""]
    assert guest.complaint_of(f"4,804,9000,-;{said[2]}\n SUBSYSTEM=net\n") == said[2]

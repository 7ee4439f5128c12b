# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every form that a run's results take names what failed and where, and is what its readers take; runs are merged."""

from __future__ import annotations

import itertools
import json
import re
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from fake_archive import image
from filelock import FileLock
from planted import AWKWARD, BUG, EXACT, KERNELS, PLANTED, kernel_of, planted_run
from runs import ROOT, Run, environment, run_pytest

from vm.__main__ import main
from vm.boot.acceleration import SUBSTITUTE
from vm.report import history, html, journal, kcidb, markdown, merging, pcapng, reports, results
from vm.report.findings import findings
from vm.report.junit import junit
from vm.report.ktap import ktap
from vm.report.ktap_stream import KtapStream
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import CaseResult, KernelResult
from vm.report.summary import lines, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.report.results import RunResult


FAKE_VM = Path(__file__).with_name("fake_vm.py")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return tmp_path


def keep(run: RunResult, directory: Path) -> Path:
    directory.mkdir()
    results.write(run, directory)
    return directory


def cells(run: Any) -> dict[tuple[str, str], str]:
    return {(kernel["name"], case["id"]): case["outcome"] for kernel in run["kernels"] for case in kernel["cases"]}


def read(directory: Path) -> Any:
    return json.loads((directory / "results.json").read_text())


# What failed, and where, in every form.


def forms(run: RunResult, directory: Path) -> Iterator[tuple[str, str]]:
    yield "summary", "\n".join(lines(run))
    yield "page", html.page(run, directory)
    yield "KTAP", ktap(run)
    yield "JUnit", junit(run, directory)
    yield "KCIDB", kcidb.to_json(run)
    yield "Markdown", markdown.summary(run)
    yield "annotations", "\n".join(markdown.commands(run))


def test_every_form_names_the_case_and_the_kernel(tmp_path: Path) -> None:
    run = planted_run()
    for name, text in forms(run, tmp_path):
        assert PLANTED.partition("::")[2].partition("[")[0].removeprefix("test_") in text, name
        assert "6.12" in text, name


def test_every_form_takes_any_name(tmp_path: Path) -> None:
    run = planted_run(AWKWARD)
    by_name = dict(forms(run, tmp_path))
    assert "<script>alert" not in by_name["page"].replace("\\u003c", "<").partition('id="data"')[0]
    (value,) = by_name["page"].split('id="data">')[1:]
    data = json.loads(value.partition("</script>")[0])
    assert AWKWARD in {name for _, name in data["cases"]}
    assert AWKWARD in {case.get("comment") for case in json.loads(by_name["KCIDB"])["tests"]}
    tree = ElementTree.fromstring(by_name["JUnit"])
    assert AWKWARD.partition("::")[2] in {case.get("name") for case in tree.iter("testcase")}
    assert "<script>" not in by_name["Markdown"].replace("`" + AWKWARD.partition("[")[0] + "`", "")
    named = [line for line in by_name["KTAP"].splitlines() if "naïve" in line]
    assert [line.split()[0] for line in named] == ["ok", "ok", "not"]
    assert not any("#" in line for line in named)


# What is not as expected.


def test_finding_says_since_which_version_and_what_it_smells_like() -> None:
    (finding,) = findings(planted_run())
    assert (finding.count, finding.of) == (1, 2)
    assert finding.where == "on 6.12: since 6.12.117, not on 6.1.192"
    assert finding.smells == f'K1 is back: the ledger has it fixed here by {BUG["commit"]} ("{BUG["subject"]}")'


def test_function_that_fails_alike_on_all_kernels_is_one_finding() -> None:
    run = planted_run()
    for kernel in run.kernels:
        kernel.cases = [
            replace(case, outcome=CaseOutcome.FAILED, reason=f"on {kernel.name}") for case in kernel.cases[:2]
        ]
    (finding,) = findings(run)
    assert (finding.count, finding.where) == (6, "on 5.10, 6.1, 6.12: every kernel that ran it")


def test_finding_without_a_bug_of_its_own_may_be_one_of_its_topic() -> None:
    run = planted_run()
    for kernel in run.kernels:
        kernel.cases = [replace(case, bugs=[]) for case in kernel.cases]
        kernel.cases.append(
            replace(kernel.cases[0], id=EXACT, outcome=CaseOutcome.PASSED, bugs=[{**BUG, "state": "affected"}])
        )
    (finding,) = findings(run)
    assert finding.smells.startswith("perhaps K1, ")


def test_bug_that_is_gone_is_said_once_and_one_without_a_hash_by_its_subject() -> None:
    run = planted_run()
    gone = run.kernels[-1].cases[0]
    gone.outcome, gone.reason = CaseOutcome.XPASSED, f"[XPASS(strict)] Linux 6.12.117 has K1: {BUG['subject']}"
    gone.bugs = [{**BUG, "state": "affected", "commit": ""}]
    (line,) = [line for line in lines(run) if line.startswith("  xpassed")]
    assert line.endswith(f'; K1 is gone: this kernel seems to have "{BUG["subject"]}"')


def test_finding_is_one_line_however_long_its_reason_is() -> None:
    run = planted_run()
    run.kernels[-1].cases[0].reason = "assert\n" + "one word of many " * 99
    (line,) = [line for line in lines(run) if line.startswith("  failed")]
    assert ": assert one word of many one" in line
    assert line.endswith("…")
    assert len(line) < 400


def test_what_differs_between_kernels_is_not_said_again_of_a_finding() -> None:
    run = planted_run()
    run.kernels[0].cases[2].outcome = CaseOutcome.PASSED
    told = list(lines(run))
    differing = told[told.index("not the same on all kernels:") :]
    assert "  cases/test_new.py::test_new: passed on 5.10; skipped on 6.1, 6.12" in differing
    assert not [line for line in differing if PLANTED.partition("[")[0] in line]


def test_cases_that_did_not_run_are_one_finding_with_their_kernel() -> None:
    run = planted_run()
    lost = run.kernels[0]
    lost.reason, lost.outcome = "VMs were lost", KernelOutcome.LOST_OR_HUNG
    lost.cases = [replace(case, outcome=CaseOutcome.NOT_RUN, reason="2 VMs were lost") for case in lost.cases]
    said = [(finding.what, finding.outcome, finding.count) for finding in findings(run)]
    assert ("kernel 5.10", "lost or hung", 0) in said
    assert ("cases that did not run", "not run", len(lost.cases)) in said


@pytest.mark.parametrize("skips", [False, True])
def test_green_matrix_of_eight_kernels_fits_on_a_screen(skips: bool) -> None:
    cases = [
        CaseResult(id=f"cases/test_t{topic}.py::test_x[{number}]", outcome=CaseOutcome.PASSED, seconds=2)
        for topic in range(40)
        for number in range(60)
    ]
    run = planted_run()
    run.kernels = [kernel_of(f"6.{number}", f"6.{number}.1", cases) for number in range(8)]
    if skips:
        expected = {0: CaseOutcome.SKIPPED, 1: CaseOutcome.XFAILED}
        old = [replace(case, outcome=expected.get(at % 60, case.outcome)) for at, case in enumerate(cases)]
        run.kernels[0].cases = old
    for kernel in run.kernels:
        kernel.notes = [f"{kernel.name} lacks something", "an option is missing"]
    printed = list(lines(run))
    assert len(printed) < 60
    if skips:
        shown = [line for line in printed if "58, 1 skipped, 1 xfailed" in line]
        assert len(shown) == 20
        assert any("20 others  1160, 20 skipped, 20 xfailed" in line and line.count(" 1200") == 7 for line in printed)
    else:
        assert any("40 others" in line and line.count("2400") == 8 for line in printed)


def test_topic_that_is_not_as_expected_always_has_a_row() -> None:
    def case(topic: int, outcome: CaseOutcome) -> CaseResult:
        return CaseResult(id=f"cases/test_t{topic}.py::test_x", outcome=outcome, seconds=0)

    run = planted_run()
    bad, odd = set(range(2, 40, 2)), set(range(1, 40, 2))
    outcomes = {**dict.fromkeys(bad, CaseOutcome.FAILED), **dict.fromkeys(odd, CaseOutcome.SKIPPED)}
    cases = [case(topic, outcomes.get(topic, CaseOutcome.PASSED)) for topic in range(50)]
    run.kernels = [kernel_of("6.1", "6.1.1", cases)]
    shown = {line.split()[0] for line in table(run)}
    assert {f"t{topic}" for topic in bad} <= shown
    assert "30 others" in "\n".join(table(run))


# The forms, as their readers have them.


def test_ktap_nests_kernels_topics_promises_and_cases() -> None:
    text = ktap(planted_run()).splitlines()
    assert text[:2] == ["KTAP version 1", "1..3"]
    assert "  # Subtest: 6.12" in text
    assert "    # Subtest: connected" in text
    assert "      # Subtest: connected.peer-only" in text
    assert f"        not ok 1 {PLANTED.partition('::')[2]}" in text
    assert any(line.startswith("        # E   assert 3 == 2") for line in text)
    assert "not ok 3 6.12" in text
    assert text[-1] == "# Totals: pass:5 fail:1 xfail:0 xpass:0 skip:3 error:0"


def test_ktap_never_nests_a_test_in_one_of_its_name() -> None:
    run = planted_run()
    run.kernels = [
        kernel_of("new", "6.1.1", [CaseResult(id="test_new.py::new", outcome=CaseOutcome.PASSED, seconds=0)])
    ]
    names = [line.split(maxsplit=2)[2] for line in ktap(run).splitlines() if line.lstrip().startswith("ok ")]
    assert all(inner != outer for inner, outer in itertools.pairwise(names))


def test_ktap_of_a_kernel_without_cases_is_one_line() -> None:
    run = planted_run()
    run.kernels[0] = KernelResult(name="5.10", outcome=KernelOutcome.INFRASTRUCTURE, reason="not fetched:\nno mirror")
    text = ktap(run).splitlines()
    assert "not ok 1 5.10 # ERROR not fetched: no mirror" in text
    assert "  # Subtest: 5.10" not in text


def test_ktap_that_is_streamed_is_the_same_and_comes_promise_by_promise(tmp_path: Path) -> None:
    run = planted_run()
    run.functions = {}  # the files of the cases are not there
    with (tmp_path / "ktap").open("w+", encoding="utf-8") as file:
        stream = KtapStream(run.kernels, file=file, root=tmp_path)
        for kernel in reversed(run.kernels):  # the last one is the first to end
            stream.expect(kernel.name, [case.id for case in kernel.cases])
            for case in kernel.cases[:2]:
                stream.finish(kernel.name, case)
        so_far = (tmp_path / "ktap").read_text()
        assert PLANTED.partition("::")[2] in so_far
        assert "# Subtest: 6.1\n" not in so_far
        stream.end()
    assert (tmp_path / "ktap").read_text() == ktap(run)


@pytest.mark.parametrize("planted", [PLANTED, AWKWARD], ids=["plain", "awkward"])
def test_netdev_s_ci_reads_a_result_for_each_kernel(planted: str) -> None:
    """As ktap_split() of nipa (contest/remote/vmksft.py): a result begins its line, what is indented belongs to it."""
    run = planted_run(planted)
    run.kernels.append(KernelResult(name="a # tree", outcome=KernelOutcome.INFRASTRUCTURE, reason="no mirror # here"))
    read = []
    for line in ktap(run).splitlines():
        if line.startswith(("ok ", "not ok ")):
            # It has no answer for a line that it cannot take apart, and ends.
            parts = re.match(r"(not )?ok (\d+)( -)? ([^#]*[^ ])( # )?([^ ].*)?$", line)
            assert parts is not None, line
            read.append((int(parts[2]), parts[4], parts[1] is None))
    assert read == [(1, "5.10", True), (2, "6.1", True), (3, "6.12", False), (4, "a _ tree", False)]


_JUNIT = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
    "system-err": (set(), set()),
}
"""Attributes and children that Jenkins' xunit plugin (junit-10.xsd) knows; GitLab reads a part of them."""


def test_junit_has_the_elements_that_jenkins_and_gitlab_know(tmp_path: Path) -> None:
    run = planted_run(AWKWARD)
    run.kernels[0].reason = "given up"
    tree = ElementTree.fromstring(junit(run, tmp_path))
    for element in tree.iter():
        attributes, children = _JUNIT[element.tag]
        assert set(element.attrib) <= attributes, element.tag
        assert {child.tag for child in element} <= children, element.tag
    assert [suite.get("name") for suite in tree] == list(KERNELS)
    (failed,) = [case for case in tree.iter("testcase") if case.find("failure") is not None]
    assert failed.get("classname") == "6.12.cases.test_connected"


def test_kcidb_tells_infrastructure_from_the_kernel_s_faults() -> None:
    run = planted_run()
    outcomes = {
        CaseOutcome.LOST: "ERROR",
        CaseOutcome.NOT_RUN: "MISS",
        CaseOutcome.XFAILED: "FAIL",
        CaseOutcome.SKIPPED: "SKIP",
    }
    first = run.kernels[0].cases[0]
    run.kernels = [
        kernel_of("6.1", "6.1.1", [replace(first, id=f"{outcome}", outcome=outcome) for outcome in outcomes]),
        KernelResult(name="7.2", outcome=KernelOutcome.INFRASTRUCTURE, reason="no mirror"),
    ]
    report = kcidb.report(run)
    assert [test["status"] for test in report["tests"]] == ["PASS", *outcomes.values(), "ERROR"]
    assert [issue["id"] for issue in report["issues"]] == [f"{kcidb.ORIGIN}:K1"]
    assert [incident["present"] for incident in report["incidents"]] == [True]
    builds = {build["id"] for build in report["builds"]}
    assert {test["build_id"] for test in report["tests"]} == builds


def test_frames_are_kept_as_pcapng_with_the_case_s_name(tmp_path: Path) -> None:
    frames = [
        {"at": 1.5, "sent": True, "data": "aabbcc", "note": "", "layers": "", "fields": []},
        {"at": 1.75, "sent": False, "data": "dd", "note": "member 3", "layers": "", "fields": []},
    ]
    path = pcapng.keep(
        [("frames", frames)], "cases/test_a.py::test_b", reason="3 == 2", kernel="6.1", directory=tmp_path
    )
    assert path == "6.1/pcap/test_a.py_test_b.pcapng"
    data, kinds = (tmp_path / path).read_bytes(), []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        kinds.append(kind)
        data = data[length:]
    assert kinds == [0x0A0D0D0A, 1, 6, 6]
    assert b"cases/test_a.py::test_b on 6.1: 3 == 2" in (tmp_path / path).read_bytes()
    assert b"2: from the server: member 3" in (tmp_path / path).read_bytes()


def test_annotations_are_on_one_line_each() -> None:
    run = planted_run()
    run.kernels[2].cases[0].reason = "50%\nof it"
    (line,) = markdown.commands(run)
    assert line.startswith("::error file=cases/test_connected.py,title=failed on 6.12")
    assert "50%25%0Aof it" in line


# Reports made again, merged, and of a run that was cut off.


def test_reports_again_are_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = keep(planted_run(), root / "one")
    reports.write(planted_run(), directory)
    before = {file.name: file.read_text() for file in directory.iterdir()}
    assert main(["report", "one"]) == 0
    assert {file.name: file.read_text() for file in directory.iterdir()} == before
    assert "not as expected:" in capsys.readouterr().out


def test_reports_of_single_runs_merged_are_those_of_the_one_run(root: Path) -> None:
    run = planted_run()
    whole = keep(run, root / "whole")
    for number, kernel in enumerate(run.kernels):
        single = keep(
            replace(run, kernels=[kernel], started=f"2026-01-0{number + 1}T00:00:00+00:00"), root / kernel.name
        )
        (single / kernel.name).mkdir()
        (single / kernel.name / "console.log").write_text(f"Linux {kernel.release}")
    assert main(["report", *KERNELS, "--output", str(root / "merged")]) == 0
    merged = read(root / "merged")
    assert cells(merged) == cells(read(whole))
    assert merged["kernels"] == read(whole)["kernels"]
    assert merged["functions"] == read(whole)["functions"]
    assert len(merged["merged"]) == 3
    assert (root / "merged/6.1/console.log").read_text() == "Linux 6.1.192"
    assert (root / "merged/results.ktap").read_text() == ktap(run)


PLANTED_ON_ONE = """
import os
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_member(n):
    assert n == (3 if os.environ["REUSEPORT_KERNEL"] == "k3" else n)
def test_other(): pass
"""


def test_run_over_three_kernels_is_that_of_three_runs_merged(root: Path) -> None:
    def run(name: str, *kernels: str) -> Run:
        directory = root / name
        directory.mkdir()
        for kernel in kernels:
            (directory / kernel).write_bytes(image("6.1.0"))
        words = ["--ktap", "ktap", *(f"--kernel=./{kernel}" for kernel in kernels)]
        return run_pytest(
            directory, words, source=PLANTED_ON_ONE, variables={SUBSTITUTE: f"{sys.executable} {FAKE_VM}"}
        )

    whole = run("whole", "k1", "k2", "k3")
    assert whole.status == 1, whole.output
    singles = [run(f"only-{kernel}", kernel) for kernel in ("k1", "k2", "k3")]
    assert [single.status for single in singles] == [0, 0, 1]
    assert main(["report", *(str(single.directory) for single in singles), "--output", str(root / "merged")]) == 0
    assert cells(read(root / "merged")) == cells(whole.results)
    assert (root / "merged/results.ktap").read_text() == (whole.directory / "results.ktap").read_text()
    assert (root / "whole/ktap").read_text() == (whole.directory / "results.ktap").read_text()
    assert "failed test_topic.py::test_member in 2 of 2 cases on k3" in whole.output
    for name in ("report.html", "junit.xml", "results.ktap", "summary.md"):
        text = (whole.directory / name).read_text()
        assert "test_member" in text
        assert "k3" in text


def test_run_that_is_given_twice_counts_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(planted_run(), root / "one")
    assert main(["report", "one", "one", "--output", str(root / "merged")]) == 0
    assert "it counts once" in capsys.readouterr().out
    assert [kernel["name"] for kernel in read(root / "merged")["kernels"]] == list(KERNELS)


def test_two_runs_of_one_kernel_that_disagree_are_both_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = planted_run()
    keep(replace(run, kernels=run.kernels[2:]), root / "one")
    fixed = replace(run.kernels[2], cases=[replace(case, outcome=CaseOutcome.PASSED) for case in run.kernels[2].cases])
    keep(replace(run, kernels=[fixed], started="2026-02-03T04:05:06+00:00"), root / "two")
    assert main(["report", "one", "two", "--output", str(root / "merged")]) == 0
    assert (
        "two runs of 6.12 disagree on 2 cases; the second is shown as 6.12@20260203T040506" in capsys.readouterr().out
    )
    assert [kernel["name"] for kernel in read(root / "merged")["kernels"]] == ["6.12", "6.12@20260203T040506"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "holds no results"),
        ('{"schema": 99}', "has schema 99, this program reads 1 and 2"),
        ('{"schema": 2, "kernels": [{"name": 3}]}', "holds no results"),
        ('{"schema": 2, "kernels": 5}', "holds no results"),
        ("[]", "holds no results"),
        ("\xff", "holds no results"),
        (None, "has neither results.json nor journal.jsonl"),
    ],
)
def test_damaged_results_are_named(
    root: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    (root / "one").mkdir()
    if content is not None:
        (root / "one/results.json").write_text(content)
    assert main(["report", "one"]) == 4
    assert said in capsys.readouterr().err
    assert {file.name for file in (root / "one").iterdir()} <= {"results.json"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 3),
        ("outcome", "unheard of"),
        ("seconds", "long"),
        ("reason", None),
        ("detail", ["a"]),
        ("packets", [{"layers": "###[ IP ]###", "data": "zz"}]),
        ("packets", [{"layers": "###[ IP ]###", "data": "00", "fields": [{"start": 0}]}]),
        ("packets", [3]),
        ("parts", [{"expected": 3}]),
        ("bugs", ["K1"]),
        ("measured", 5),
        ("story", 7),
    ],
)
def test_field_that_is_damaged_is_named_and_nothing_is_written(
    root: Path, capsys: pytest.CaptureFixture[str], field: str, value: object
) -> None:
    directory = keep(planted_run(), root / "one")
    data = read(directory)
    data["kernels"][2]["cases"][0][field] = value
    (directory / "results.json").write_text(json.dumps(data))
    assert main(["report", "one", "--output", str(root / "new")]) == 4
    said = capsys.readouterr().err
    assert "holds no results" in said
    assert field in said
    assert not (root / "new").exists()


def test_run_without_kernels_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(replace(planted_run(), kernels=[]), root / "one")
    assert main(["report", "one"]) == 4
    assert "has no kernels: there is nothing to report" in capsys.readouterr().err


def test_results_of_version_1_are_read(root: Path) -> None:
    directory = keep(planted_run(), root / "one")
    data = read(directory)
    del data["functions"], data["merged"]
    (directory / "results.json").write_text(json.dumps({**data, "schema": 1}))
    assert cells(json.loads(results.to_json(merging.read(directory)))) == cells(data)


def test_run_that_was_cut_off_leaves_what_ran(root: Path) -> None:
    run = planted_run()
    (root / "one").mkdir()
    kept = journal.Journal(root / "one", command=run.command, started=run.started, kernels=KERNELS)
    for kernel in run.kernels:
        kept.note_kernel(kernel)
        for case in kernel.cases[:2]:
            kept.note_case(kernel.name, case)
    kept.close()
    with (root / "one/journal.jsonl").open("a") as file:
        file.write('{"kernel": "6.1", "case": {"id": "cut')
    assert main(["report", "one"]) == 0
    left = read(root / "one")
    assert left["outcome"] == "not finished"
    assert cells(left) == {(kernel.name, case.id): case.outcome for kernel in run.kernels for case in kernel.cases[:2]}
    assert [kernel["release"] for kernel in left["kernels"]] == list(KERNELS.values())
    assert PLANTED.partition("[")[0] in (root / "one/report.html").read_text()


def test_run_that_is_killed_leaves_valid_reports_of_what_ran(tmp_path: Path) -> None:
    source = """
import os, signal
def test_good(): pass
def test_bad(): assert False
def test_killed(): os.kill(os.getpid(), signal.SIGKILL)
def test_after(): pass
"""
    words = ["-p", "harness.plugin", "--where-possible", "--ktap", "ktap"]
    assert run_pytest(tmp_path, words, source=source, variables={}).status == -9
    (directory,) = (tmp_path / "results").glob("2*")
    assert main(["report", str(directory), "--history", str(tmp_path / "none")]) == 0
    assert cells(read(directory)) == {
        ("host", "test_topic.py::test_good"): "passed",
        ("host", "test_topic.py::test_bad"): "failed",
    }
    assert ElementTree.parse(directory / "junit.xml").getroot().get("tests") == "3"  # with one for the kernel
    assert "not ok 1 host" in (directory / "results.ktap").read_text()
    assert "        ok 1 test_good\n" in (tmp_path / "ktap").read_text()


def test_files_of_another_run_stay_in_the_merge_s_directory(root: Path) -> None:
    run = planted_run()
    wicked = replace(run.kernels[0], name="a/../../wicked", console="a/console.log")
    (keep(replace(run, kernels=[wicked]), root / "one") / "a").mkdir()
    (root / "one/a/console.log").write_text("Linux")
    assert main(["report", "one", "--output", str(root / "b/merged")]) == 0
    assert list(root.rglob("wicked")) == []


# Since when.


def test_history_that_has_this_run_already_says_only_what_was_before(root: Path) -> None:
    file = root / "history.json"
    history.update(file, planted_run())
    (finding,) = findings(planted_run(), history.read(file))
    assert finding.since == ""
    good = planted_run()
    good.kernels[-1].cases[0].outcome = CaseOutcome.PASSED
    history.update(file, replace(good, started="2026-01-02T00:00:00+00:00"))
    bad = replace(planted_run(), started="2026-01-03T00:00:00+00:00")
    history.update(file, bad)
    (finding,) = findings(replace(bad, started="2026-01-01T12:00:00+00:00", merged=[bad.started]), history.read(file))
    assert finding.since == "new: passed in the run before"


def test_history_says_since_which_run(root: Path) -> None:
    file = root / "history.json"
    good = planted_run()
    good.kernels[2].cases = [replace(case, outcome=CaseOutcome.PASSED) for case in good.kernels[2].cases]
    for day in (1, 2):
        history.update(file, replace(good, started=f"2026-01-0{day}T00:00:00+00:00"))
    bad = replace(planted_run(), started="2026-01-03T00:00:00+00:00")
    before, complaint = history.update(file, bad)
    assert complaint == ""
    assert findings(bad, before)[0].since == "new: passed in the run before, on 6.12.117"
    again = replace(bad, started="2026-01-04T00:00:00+00:00")
    before, _ = history.update(file, again)
    assert findings(again, before)[0].since == "since the run of 2026-01-03T00:00 (6.12.117), passed before"


def test_case_that_became_slower_is_said(root: Path) -> None:
    file = root / "history.json"
    for day in range(1, 4):
        history.update(file, replace(planted_run(), started=f"2026-01-0{day}T00:00:00+00:00"))
    slow = planted_run()
    slow.kernels[1].cases[0].seconds = 9.0
    assert any("9.0 s, 0.1 s before" in line for line in lines(slow, history.read(file)))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 99}', '{"format": 1, "last": "", "kernels": {"6.1": {"a": [1]}}}']
)
def test_damaged_history_is_kept_and_a_new_one_begun(root: Path, content: str) -> None:
    file = root / "history.json"
    file.write_text(content)
    _, complaint = history.update(file, planted_run())
    assert "kept as history.json.damaged" in complaint
    assert (root / "history.json.damaged").read_text() == content
    assert history.read(file).entry("6.12", PLANTED) is not None


def test_locked_history_is_left_alone(root: Path) -> None:
    file = root / "history.json"
    with FileLock(root / ".history.json.lock"):
        _, complaint = history.update(file, planted_run(), seconds=0)
    assert "is locked by another run" in complaint
    assert not file.exists()


# The schema, and a run as a user has it.


def test_schema_has_the_fields_of_the_code(root: Path) -> None:
    schema = json.loads((ROOT / "docs/results.schema.json").read_text())
    run = read(keep(planted_run(AWKWARD), root / "one"))
    kernel = run["kernels"][2]
    assert set(schema["properties"]) == set(run)
    assert set(schema["$defs"]["kernel"]["properties"]) == set(kernel)
    fields = {name for entry in run["kernels"] for case in entry["cases"] for name in case}
    assert set(schema["$defs"]["case"]["properties"]) == fields
    assert schema["properties"]["schema"]["const"] == run["schema"]
    assert schema["$defs"]["case"]["properties"]["outcome"]["enum"] == list(CaseOutcome)
    assert schema["$defs"]["kernel"]["properties"]["outcome"]["enum"] == sorted(
        KernelOutcome, key=schema["$defs"]["kernel"]["properties"]["outcome"]["enum"].index
    )


CASES = '''
import pytest

@pytest.mark.promise("a.promise")
def test_good(): """What is promised."""
def test_bad(): assert [1, 3] == [1, 2]
'''


def test_reports_are_streamed_as_ktap(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path, ["-p", "harness.plugin", "--where-possible", "--ktap", "ktap"], source=CASES, variables={}
    )
    assert run.status == 1, run.output
    assert (tmp_path / "ktap").read_text() == (run.directory / "results.ktap").read_text()
    assert "        ok 1 test_good\n" in (tmp_path / "ktap").read_text()
    assert "      # Subtest: a.promise\n" in (tmp_path / "ktap").read_text()
    assert run.results["functions"]["test_topic.py::test_good"]["says"] == "What is promised."
    assert run.case("test_bad")["parts"][0]["expected"] == "[1, 2]"
    assert not (run.directory / "journal.jsonl").exists()
    time.sleep(1)  # runs are told apart by the second in which they started
    words = ["-m", "pytest", "-p", "harness.plugin", "--where-possible", "--ktap", "-"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("KTAP version 1\n1..1\n")
    assert done.stdout == (tmp_path / "results/latest/results.ktap").read_text()
    assert "not as expected:" in done.stderr
    assert "since the run of" in done.stderr

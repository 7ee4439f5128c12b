# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The harness is exported into a kernel tree's selftests, and runs there as one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vm.__main__ import main
from vm.kselftest import ktap
from vm.kselftest.__main__ import main as kselftest_main
from vm.kselftest.export import COPY
from vm.report.outcomes import CaseOutcome
from vm.report.results import CaseResult, KernelResult

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of the selftest in a tree that has what runs selftests."""
    selftests = tmp_path / "linux/tools/testing/selftests"
    (selftests / "kselftest").mkdir(parents=True)
    (selftests / "lib.mk").write_text("run_tests:\n\t@for test in $(TEST_PROGS); do ./$$test; done\n")
    (selftests / "kselftest/runner.sh").write_text("")
    return selftests / "reuseport"


def result(name: str, outcome: CaseOutcome, *, reason: str = "", detail: str = "") -> CaseResult:
    return CaseResult(id=f"cases/test_{name}", outcome=outcome, seconds=1.5, reason=reason, detail=detail)


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_export_has_what_kselftest_runs_and_installs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-kselftest", str(directory)]) == 0
    assert capsys.readouterr().out == f"make -C {directory.parent} TARGETS=reuseport run_tests\n"
    makefile = (directory / "Makefile").read_text()
    assert "TEST_PROGS := reuseport.sh\n" in makefile
    assert f"TEST_FILES := {COPY}\n" in makefile
    assert os.access(directory / "reuseport.sh", os.X_OK)
    assert re.fullmatch(r"timeout=\d+\n", (directory / "settings").read_text())
    assert (directory / COPY / "cases/test_reference.py").read_bytes() == (
        ROOT / "cases/test_reference.py"
    ).read_bytes()
    assert not list(directory.rglob("__pycache__"))
    assert not [name for name in files(directory.parent) if name.startswith(".")], "nothing beside it"


def test_its_configuration_is_what_cases_need_and_no_machine(directory: Path) -> None:
    main(["export-kselftest", str(directory)])
    lines = (directory / "config").read_text().splitlines()
    assert {"CONFIG_VETH=y", "CONFIG_BPF_SYSCALL=y", "CONFIG_NET_CLS_BPF=y", "CONFIG_KPROBES=y"} <= set(lines)
    assert not {"CONFIG_64BIT=y", "CONFIG_SMP=y", "CONFIG_DEBUG_INFO_NONE=y"} & set(lines)


def test_an_export_takes_the_place_of_an_older_one(directory: Path) -> None:
    main(["export-kselftest", str(directory)])
    fresh = files(directory)
    (directory / COPY / "harness/cases.py").write_text("old")
    (directory / COPY / "results").mkdir()
    (directory / COPY / "results/x.json").write_text("of a run")
    assert main(["export-kselftest", str(directory)]) == 0
    assert files(directory) == fresh


@pytest.mark.parametrize("exported", [False, True])
def test_a_directory_with_something_of_its_own_is_left_alone(
    directory: Path, capsys: pytest.CaptureFixture[str], *, exported: bool
) -> None:
    if exported:
        main(["export-kselftest", str(directory)])
    directory.mkdir(exist_ok=True)
    (directory / "mine.c").write_text("int x;")
    before = files(directory.parent)
    assert main(["export-kselftest", str(directory)]) == 4
    assert "has files that are of no export (mine.c): give another directory" in capsys.readouterr().err
    assert files(directory.parent) == before


def test_a_tree_without_the_selftests_runner_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-kselftest", str(tmp_path / "reuseport")]) == 4
    assert f"{tmp_path} has no lib.mk and no kselftest/runner.sh" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_is_skipped_with_a_reason_where_it_cannot_run(directory: Path, tmp_path: Path) -> None:
    main(["export-kselftest", str(directory)])
    for name, script in {"id": "echo 1000", "old": "exit 1", "bare": f'exec {sys.executable} -S "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    user = f"{tmp_path}:{os.environ['PATH']}"
    assert skipped(directory, PATH=user) == "this needs root"
    assert "old is older than 3.11: set REUSEPORT_PYTHON" in skipped(directory, REUSEPORT_PYTHON=str(tmp_path / "old"))
    assert "there is no /no/python" in skipped(directory, REUSEPORT_PYTHON="/no/python")
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    bare = skipped(directory, PATH=user, REUSEPORT_PYTHON=str(tmp_path / "bare"))
    assert re.search(r"the Python package \w+ is missing: run ./bootstrap", bare)


def skipped(directory: Path, **environment: str) -> str:
    """Run the script; return the reason that its KTAP has for skipping, and check its status."""
    done = subprocess.run(
        [directory / "reuseport.sh"], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stdout + done.stderr
    said = re.fullmatch(r"TAP version 13\n1\.\.0 # SKIP (.+)\n", done.stdout)
    assert said is not None, done.stdout
    return said[1]


KERNEL = KernelResult(
    name="host",
    release="6.1.0",
    cases=[
        result("reference.py::test_a[udp]", CaseOutcome.PASSED),
        result("reference.py::test_b", CaseOutcome.FAILED, detail="E   member 4\nE   not 3"),
        result("quic.py::test_c", CaseOutcome.SKIPPED, reason="needs BTF #1"),
        result("attach.py::test_d#1", CaseOutcome.XFAILED, reason="bug"),
    ],
)


def test_a_file_of_cases_is_a_test_and_its_cases_are_nested() -> None:
    assert list(ktap.lines(KERNEL)) == [
        "TAP version 13",
        "1..3",
        "# Linux 6.1.0",
        "  KTAP version 1",
        "  # Subtest: reference",
        "  1..2",
        "  ok 1 test_a[udp]",
        "  # E   member 4",
        "  # E   not 3",
        "  not ok 2 test_b",
        "not ok 1 reference # time=3000ms",
        "  KTAP version 1",
        "  # Subtest: quic",
        "  1..1",
        "  ok 1 test_c # SKIP needs BTF 1",
        "ok 2 quic # SKIP all cases",
        "  KTAP version 1",
        "  # Subtest: attach",
        "  1..1",
        "  ok 1 test_d_1 # XFAIL bug",
        "ok 3 attach # time=1500ms",
        "# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0",
    ]


def test_netdev_s_ci_reads_a_result_for_each_file() -> None:
    """As contest/remote/lib/results.py of nipa reads what the runner, which puts "# " before each line, prints."""
    printed = [f"# {line}" for line in ktap.lines(KERNEL)]
    begin = next(at for at, line in enumerate(printed) if line.startswith("# TAP version "))
    read = [re.match(r"# (not )?ok (\d+)( \d+)?( -)? ([^#]*[^ ])( +# +)?([^ ].*)?$", line) for line in printed[begin:]]
    found = [(one[5], one[1] is None, one[7]) for one in read if one is not None]
    assert found == [
        ("reference", False, "time=3000ms"),
        ("quic", True, "SKIP all cases"),
        ("attach", True, "time=1500ms"),
    ]


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([CaseOutcome.PASSED, CaseOutcome.SKIPPED], 0),
        ([CaseOutcome.SKIPPED, CaseOutcome.SKIPPED], 4),
        ([CaseOutcome.PASSED, CaseOutcome.FAILED], 1),
        ([CaseOutcome.XPASSED], 1),
        ([CaseOutcome.PASSED, CaseOutcome.NOT_RUN], 1),
        ([CaseOutcome.XFAILED], 0),
    ],
)
def test_the_exit_status_is_kselftest_s(outcomes: list[CaseOutcome], status: int) -> None:
    cases = [result(f"x.py::test_{number}", outcome) for number, outcome in enumerate(outcomes)]
    assert ktap.status(KernelResult(name="host", cases=cases)) == status


def test_help_needs_no_root_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert kselftest_main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m vm.kselftest")

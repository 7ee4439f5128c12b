# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`git bisect run vm/bisect` finds the right commit, says why it cannot, and leaves a summary.

The repository and git are real. In place of the compiler and of pytest in a VM there is a program that makes the image
from the source, and whose cases fail as often as the source says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import CaseResult, KernelResult

BISECT = Path(__file__).parents[2] / "vm" / "bisect"
ME = Path(__file__).resolve()

GIT = ["git", "-c", "user.name=A Developer", "-c", "user.email=dev@example.org", "-c", "core.hooksPath=/dev/null"]


def stand_in(words: list[str]) -> int:
    """Do what `python -m vm build` and `python -m pytest` would: called as a program, below."""
    desk = Path(os.environ["DESK"])
    with (desk / "calls").open("a") as calls:
        print(*words, file=calls)
    if words[1:3] == ["vm", "build"]:
        return _build(Path(words[3]), Path(words[5]))
    return _run(desk, words)


def _build(tree: Path, output: Path) -> int:
    source = (tree / "sock.c").read_text()
    if "does not compile" in source:
        return 13
    if "disk full" in source:
        return 4
    image = output / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_text("\n".join(line for line in source.splitlines() if not line.startswith("//")))
    return 0


def _run(desk: Path, words: list[str]) -> int:
    source = (desk / "out/arch/x86/boot/bzImage").read_text()
    if "does not boot" in source:
        return 13
    if "no case" in source:
        return 5
    (times,) = [int(word.partition("=")[2]) for word in words if word.startswith("--times=")] or [1]
    failed = [turn for turn in range(1, times + 1) if "race" in source and turn % 5 == 3] or [1] * ("bug" in source)
    turns = [f"-{turn}of{times}" if times > 1 else "" for turn in failed]
    detail = "E   UDP 192.0.2.9\n       expected  member 3\n       observed  member 4\n/x.py:7: AssertionError"
    story = desk / "story.txt"
    story.write_text("run again under trace, the case failed again: member 4\n")
    cases = [
        CaseResult(
            id=f"cases/test_x.py::test_it[udp{turn}]",
            outcome=CaseOutcome.FAILED, seconds=1, reason="UDP 192.0.2.9", detail=detail,
            story=str(story) if "--witness=failed" in words else None,
        )
        for turn in turns
    ]  # fmt: skip
    kernel = KernelResult(
        name="out", outcome=KernelOutcome.FAILED if cases else KernelOutcome.PASSED, release="6.1.9", cases=cases
    )
    _write(desk / "results", kernel)
    print(f"results: {desk}/results")
    return 1 if cases else 0


def _write(directory: Path, kernel: KernelResult) -> None:
    from vm.report import results

    directory.mkdir(exist_ok=True)
    run = results.RunResult(
        command=["pytest"], started="", duration=1, exit=0, outcome="passed", tools={}, kernels=[kernel]
    )
    results.write(run, directory)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase $2 in vm.bisection) exec {sys.executable} "$@";; esac\nexec {sys.executable} {ME} "$@"\n'
    )
    python.chmod(0o755)
    (tmp_path / "linux").mkdir()
    git(tmp_path, "init", "--quiet")
    return tmp_path


def git(desk: Path, *arguments: str) -> str:
    environment = {
        **os.environ, "DESK": str(desk), "PYTHON": str(desk / "python"), "BISECT_OUTPUT": str(desk / "out"),
        "PYTHONPATH": str(ME.parents[2]), "GIT_CONFIG_GLOBAL": "/dev/null",
    }  # fmt: skip
    done = subprocess.run(
        [*GIT, *arguments], cwd=desk / "linux", env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def history(desk: Path, *sources: str) -> list[str]:
    """Make a commit of each source; return their SHAs."""
    shas = []
    for number, source in enumerate(sources):
        (desk / "linux/sock.c").write_text(f"{source}\n")
        git(desk, "add", "sock.c")
        git(desk, "commit", "--quiet", "--allow-empty", "--message", f"Change {number}")
        shas.append(git(desk, "rev-parse", "HEAD").strip())
    return shas


def bisect(desk: Path, shas: list[str], *options: str) -> str:
    git(desk, "bisect", "start", shas[-1], shas[0])
    return git(desk, "bisect", "run", str(BISECT), *options)


def runs(desk: Path) -> int:
    return (desk / "calls").read_text().count("-m pytest ")


def test_a_race_is_bad_if_it_fails_once_in_n_times(desk: Path) -> None:
    shas = history(desk, "1", "2", "3", "race 4", "race 5", "race 6", "race 7", "race 8")
    said = bisect(desk, shas, "--times", "20", "-k", "udp")
    assert f"{shas[3]} is the first bad commit" in said
    assert "--tb=line --witness=none --times=20 -k udp" in (desk / "calls").read_text()
    summary = said[said.index("\nfirst bad commit: ") :]
    assert f'first bad commit: {shas[3][:12]} ("Change 3")' in summary
    assert "failed 4 of 20 times: cases/test_x.py::test_it[udp]" in summary
    assert "  UDP 192.0.2.9\n     expected  member 3\n     observed  member 4\n  all of it" in summary
    assert "run again under trace, the case failed again: member 4" in summary
    assert "git bisect run vm/bisect --times 20 -k udp" in summary
    assert "Linux 6.1.9" in summary
    assert f"passes      {shas[2][:12]}  Change 2  (failed 0 of 20 times)" in summary
    assert summary.strip().splitlines()[0] in git(desk, "bisect", "run", str(BISECT), "--summary") + said


def test_without_times_the_race_is_not_seen_and_the_bisection_stops(desk: Path) -> None:
    shas = history(desk, "1", "2", "race 3")
    said = bisect(desk, shas)
    assert "the bad commit" in said
    assert "passes: if it is a race, give --times N;" in said
    assert "is the first bad commit" not in said
    assert runs(desk) == 1


def test_a_good_commit_that_fails_stops_the_bisection(desk: Path) -> None:
    shas = history(desk, "bug 1", "2", "bug 3", "bug 4")
    said = bisect(desk, shas)
    assert f'error: the good commit {shas[0][:12]} ("Change 0") fails: cases/test_x.py::test_it[udp].' in said
    assert "is the first bad commit" not in said
    assert git(desk, "rev-parse", "HEAD").strip() not in (shas[0], shas[-1]), "the commit of the bisection is back"


def test_a_fix_is_found_by_swapping_good_and_bad(desk: Path) -> None:
    shas = history(desk, "bug 1", "bug 2", "bug 3", "4", "5")
    git(desk, "bisect", "start", "--term-old", "broken", "--term-new", "fixed", shas[-1], shas[0])
    said = git(desk, "bisect", "run", str(BISECT), "--find-fix")
    assert f"{shas[3]} is the first fixed commit" in said
    assert f'first fixed commit: {shas[3][:12]} ("Change 3")' in said
    assert "on " + shas[2][:12] in said, "the failure that it fixed"


def test_an_image_that_was_judged_is_not_run_again(desk: Path) -> None:
    shas = history(desk, "1", "1\n// a comment", "bug 2", "bug 2\n// another")
    said = bisect(desk, shas)
    assert f"{shas[2]} is the first bad commit" in said
    assert f"the same kernel image as {shas[3][:12]}, which fails; not run again" in said
    assert f"the same kernel image as {shas[0][:12]}, which passes; not run again" in said
    assert runs(desk) == 3, "each image once, and the bad one once more under trace"


def test_the_record_of_one_bisection_is_not_used_in_the_next(desk: Path) -> None:
    shas = history(desk, "1", "2", "bug 3")
    bisect(desk, shas)
    before = runs(desk)
    git(desk, "bisect", "reset")
    bisect(desk, shas)
    assert runs(desk) == 2 * before


def test_commits_that_cannot_be_tested_are_skipped_and_named(desk: Path) -> None:
    shas = history(desk, "1", "does not compile", "does not boot", "bug 4")
    said = bisect(desk, shas)
    assert "only 'skip'ped commits left to test" in said
    assert "the first bad commit is one of these; all but the newest could not be tested:" in said
    assert [sha for sha in shas[1:] if f"\n  {sha}\n" not in said[said.index("one of these") :]] == []


@pytest.mark.parametrize("source", ["disk full", "no case"])
def test_what_is_not_the_commit_s_fault_stops_the_bisection(desk: Path, source: str) -> None:
    shas = history(desk, "1", source, "bug 3")
    said = bisect(desk, shas)
    assert "is the first bad commit" not in said
    assert "error: the " in said


@pytest.mark.parametrize("times", ["0", "-1", "few"])
def test_a_number_of_times_that_is_none_stops_the_bisection(desk: Path, times: str) -> None:
    shas = history(desk, "1", "2", "bug 3")
    said = bisect(desk, shas, f"--times={times}")
    assert f"{times!r} is no number of runs: give 1 or more" in said
    assert "is the first bad commit" not in said
    assert not (desk / "calls").exists()


def test_kernels_are_minimised_on_request(desk: Path) -> None:
    bisect(desk, history(desk, "1", "2", "bug 3"), "--minimise")
    assert "--minimise" in (desk / "calls").read_text()


def test_a_summary_without_a_bisection_is_an_error(desk: Path) -> None:
    history(desk, "1")
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [BISECT, "--summary"], cwd=desk / "linux", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 128
    assert "has no bisection that vm/bisect was run in" in done.stderr


if __name__ == "__main__":
    sys.exit(stand_in(sys.argv[1:]))

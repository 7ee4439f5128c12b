# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs where little is as usual: no terminal, no locale, names with blanks, a clock that was set back, another run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import image
from runs import CONFIGURATION, FAKE_VM, Run, environment
from small_archive import VERSION, SmallArchive, one_kernel, signing_key, small_archive
from test_archive import needs_apt
from test_no_room import may_mount

from vm.boot.acceleration import SUBSTITUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["one_kernel", "signing_key", "small_archive"]  # fixtures

CASES = """
import pytest

def test_good(): pass

@pytest.mark.parametrize("word", ["ä → ·"])
def test_bad(word): assert word == "× member", "ä → ·"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a directory with a kernel."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "k61").write_bytes(image("6.1.0"))
    return directory


def typed(here: Path, line: str, *arguments: str, **variables: str) -> Run:
    """Run CASES in VMs by a line of shell in which "$@" is the command; an empty variable is unset."""
    (here / "pyproject.toml").write_text(CONFIGURATION)
    (here / "test_topic.py").write_text(CASES, encoding="utf-8")
    wanted = environment(here, **{SUBSTITUTE: FAKE_VM, **variables})
    command: Sequence[str] = ["sh", "-c", line, "sh", sys.executable, "-m", "pytest", *arguments]
    done = subprocess.run(
        command,
        cwd=here,
        env={name: value for name, value in wanted.items() if value},
        capture_output=True,
        timeout=90,
        check=False,
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    return Run(done.returncode, output, here / "results/latest")


def demand_as_usual(run: Run, kernel: str = "k61") -> None:
    """Hold a run of CASES against what it comes to anywhere."""
    assert run.status == 1, run.output
    assert "Traceback" not in run.output
    assert [case["outcome"] for case in run.kernel(kernel)["cases"]] == ["passed", "failed"]
    assert run.kernel(kernel)["cases"][1]["reason"].startswith("AssertionError: ä → ·")
    for report in ("report.html", "junit.xml", "results.ktap"):
        assert (run.directory / report).stat().st_size > 0


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "", "LC_ALL": "", "LANGUAGE": "", "TERM": ""},
        {"LC_ALL": "C"},
        {"LC_ALL": "de_DE.ISO-8859-1"},
        # As in a locale of its own that is not UTF-8, of which not every machine has one.
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["unset", "C", "not installed", "ASCII"],
)
def test_locale(here: Path, variables: dict[str, str]) -> None:
    run = typed(here, '"$@"', "--kernel", "./k61", **variables)
    demand_as_usual(run)
    assert "ä → ·" in (run.directory / "junit.xml").read_text(encoding="utf-8")


def test_no_terminal(here: Path) -> None:
    """The input is closed, the output goes through a pipe."""
    demand_as_usual(typed(here, '"$@" <&- >out; status=$?; cat out; exit $status', "--kernel", "./k61"))


def test_names_with_blanks_and_letters_of_all_kinds(tmp_path: Path) -> None:
    here = tmp_path / "a checkout ä's"
    here.mkdir()
    (here / "my kernel ü").write_bytes(image("6.1.0"))
    run = typed(here, '"$@"', "--kernel", "./my kernel ü")
    demand_as_usual(run, kernel="my_kernel_ü")
    assert (run.directory / "my_kernel_ü/console.log").is_file()


@needs_apt
def test_cache_whose_name_has_blanks(small_archive: SmallArchive, here: Path) -> None:
    variables = {**small_archive.variables, "XDG_CACHE_HOME": str(here / "a cache ü")}
    demand_as_usual(typed(here, '"$@"', *small_archive.kernel, **variables), kernel="6.1")


def test_name_that_is_not_utf8_is_a_usage_error(here: Path) -> None:
    (here / os.fsdecode(b"k\xff")).write_bytes(image("6.1.0"))
    run = typed(here, '"$@" --kernel "$(printf "./k\\377")"')
    assert run.status == pytest.ExitCode.USAGE_ERROR, run.output
    assert "is not UTF-8, or this locale has no such characters: set LC_ALL=C.UTF-8" in run.output
    assert not (here / "results").exists()


@pytest.mark.skipif(not may_mount(), reason="this user may not mount anything in a namespace of its own")
def test_home_that_cannot_be_written(small_archive: SmallArchive, here: Path) -> None:
    """The way out is in what is said: a cache elsewhere."""
    (here / "home").mkdir()
    line = 'unshare -rm sh -c \'mount -t tmpfs -o ro none home; "$@"\' sh "$@"'
    given = {**small_archive.variables, "HOME": str(here / "home")}
    run = typed(here, line, *small_archive.kernel, **{**given, "XDG_CACHE_HOME": ""})
    assert run.status == 13, run.output
    assert f"{here}/home/.cache" in run.output
    assert "cannot be used (Read-only file system): give this user the directory" in run.output
    assert "or point XDG_CACHE_HOME at another directory" in run.output
    demand_as_usual(typed(here, line, *small_archive.kernel, **given), kernel="6.1")


@needs_apt
def test_two_runs_at_once_fetch_one_kernel_and_have_results_of_their_own(
    small_archive: SmallArchive, here: Path
) -> None:
    """In the same directory, and begun in the same second or nearly."""
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(typed, here, '"$@"', *small_archive.kernel, **small_archive.variables) for _ in range(2)]
    outputs = [run.result().output for run in runs]
    assert sum(f"6.1: unpacking {VERSION}" in output for output in outputs) == 1, outputs
    lines = [line for output in outputs for line in output.splitlines()]
    directories = {line.split()[1] for line in lines if line.startswith("results: ")}
    assert len(directories) == 2
    for directory in directories:
        demand_as_usual(Run(1, "", Path(directory)), kernel="6.1")
    assert str((here / "results/latest").resolve()) in directories
    assert len(list((here / "results").glob("2*"))) == 2


@needs_apt
def test_clock_that_was_set_back(small_archive: SmallArchive, here: Path) -> None:
    """What is there seems to come from the future: package lists are read again, `latest` is the last run."""
    demand_as_usual(typed(here, '"$@"', *small_archive.kernel, **small_archive.variables), kernel="6.1")
    future = time.time() + 10 * 365 * 86400
    (here / "results/latest").resolve().rename(here / "results/20991231T235959Z")
    (here / "results/latest").unlink()
    (here / "results/latest").symlink_to("20991231T235959Z")
    shutil.rmtree(small_archive.entry)
    for path in (*small_archive.cache.rglob("*"), *here.rglob("*")):
        if not path.is_symlink():
            os.utime(path, (future, future))
    run = typed(here, '"$@"', *small_archive.kernel, **small_archive.variables)
    demand_as_usual(run, kernel="6.1")
    assert "downloading the package lists" in run.output, "they may be of any age"
    assert (here / "results/latest").resolve().name != "20991231T235959Z"

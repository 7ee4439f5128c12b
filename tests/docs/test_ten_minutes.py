# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Do what docs/ten-minutes.md says, in a repository and an environment of their own, on this kernel (as root)."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

import wheel  # noqa: E402
from documented import commands  # noqa: E402

PAGE = "docs/ten-minutes.md"
WITH_KERNELS = [one for one in commands(PAGE) if "--vm --kernel 6.1" in one or "vm run 6.1" in one]
"""tests/vm/test_wheel.py runs these."""
HERE = [
    one
    for one in commands(PAGE)
    if re.match(r"python -m (pytest|harness) \S", one) and one not in WITH_KERNELS and "server.bpf.c" in one
]


def block(language: str) -> str:
    """Return the page's only block in that language."""
    (shown,) = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / PAGE).read_text(), flags=re.MULTILINE | re.DOTALL)
    return str(shown)


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with the page's files."""
    made = wheel.example(tmp_path)
    (made / "tests/test_page.py").write_text(block("python"))
    (made / "server.bpf.c").write_text(block("c"))
    return made


@pytest.mark.parametrize("command", HERE)
def test_commands_of_the_page_run(python: Path, repository: Path, command: str) -> None:
    done = wheel.run(python, shlex.split(command), repository)
    assert done.returncode == 0, done.stdout + done.stderr
    if " pytest tests " in command:
        assert "4 passed" in done.stdout, "three of the example, and the page's own"


def test_the_page_s_tox_ini_is_the_example_s(python: Path, repository: Path) -> None:
    assert block("ini") in (wheel.EXAMPLE / "tox.ini").read_text()
    done = wheel.run(python, [*shlex.split(wheel.tox_command()), "--where-possible"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (repository / "results/latest/results.json").is_file()


def test_the_page_s_program_is_the_example_s() -> None:
    assert (wheel.EXAMPLE / "server.bpf.c").read_text().endswith(block("c"))


def test_the_page_names_the_packages_that_a_user_needs() -> None:
    """They are those of bindep.txt without a profile, but for the witness's, other machines', and the tests' own."""
    listed = re.findall(r"^(\S+)(?: \[platform:dpkg\])?$", (ROOT / "bindep.txt").read_text(), flags=re.MULTILINE)
    others = {"apt", "gpg", "gpg-agent", "libbpf1", "llvm", "make", "openssh-client", "python3-bpfcc"}
    opening = (ROOT / PAGE).read_text().split("its packages ")[1].split("\n\n")[0]
    assert set(re.findall(r"`([\w-]+)`", opening)) == set(listed) - others


def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(wheel.build(tmp_path)).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "harness", "vm", "bpf", "cases"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = {
        name.replace("bpf/", "harness/bpf/", 1).replace("cases/", "harness/conformance/", 1)
        if name.startswith(("bpf/", "cases/"))
        else name
        for name in listed.stdout.splitlines()
    }
    assert "harness/bpf/select.h" in expected
    assert expected - names == set()


def test_what_the_page_promises_is_there(python: Path, repository: Path) -> None:
    rows = dict(re.findall(r"^\| ([\w `.,]+) \| (.+) \|$", (ROOT / PAGE).read_text().split("may I rely on?")[1], re.M))
    names = re.findall(r"`(\w+)`", rows["names of `harness.cases`, in its `__all__`"])
    asked = "from harness.cases import *; print(*(name for name in dir() if name[0] != '_'))"
    imported = wheel.run(python, ["python", "-c", asked], repository)
    assert imported.stdout.split() == sorted(names), imported.stderr
    options = re.findall(r"`(--[\w-]+)`", rows["options of pytest"])
    shown = wheel.run(python, ["python", "-m", "pytest", "--help"], repository).stdout
    assert [option for option in options if option not in shown] == []
    fixtures = wheel.run(python, ["python", "-m", "pytest", "--fixtures", "tests"], repository).stdout
    assert [name for name in re.findall(r"`(\w+)`", rows["fixtures"]) if f"\n{name} -- " not in fixtures] == []


def test_without_clang_it_is_said_how_to_get_it(python: Path, repository: Path) -> None:
    done = wheel.run(python, shlex.split(wheel.tox_command()), repository, PATH="/nowhere")
    assert done.returncode == 4
    assert "clang is not installed" in done.stdout + done.stderr


def test_without_the_rights_it_is_said_what_is_missing(python: Path, repository: Path) -> None:
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = wheel.run(python, [*without, *shlex.split(wheel.tox_command())], repository)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "root" in done.stdout + done.stderr


def test_without_kvm_it_is_said_how_to_go_on(python: Path, repository: Path) -> None:
    command = [*shlex.split(wheel.tox_command()), "--vm", "--kernel", "6.1", "--accel", "kvm"]
    done = wheel.run(python, command, repository, REUSEPORT_KVM="/nowhere/kvm")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "--accel kvm: there is no /nowhere/kvm" in done.stderr
    assert not (repository / "results").exists()


def test_other_people_s_tests_are_left_alone(python: Path, tmp_path: Path) -> None:
    """With the plugin there and no option given: a file of a name that the project has, too, and workers of xdist."""
    (tmp_path / "test_own_program.py").write_text("def test_theirs():\n    pass\n")
    done = wheel.run(python, ["python", "-m", "pytest", "-n", "1"], tmp_path, PATH="/nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_modules_are_no_missing_files(python: Path, repository: Path) -> None:
    """--pyargs gives names of modules; what is wrong here is the kernel's name."""
    words = shlex.split("python -m pytest --pyargs harness.conformance.test_own_program --program server.bpf.c")
    done = wheel.run(python, [*words, "--vm", "--kernel", "nonsense"], repository)
    assert done.returncode == 4
    assert "no kernel is called 'nonsense'" in done.stderr

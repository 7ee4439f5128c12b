# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The rules that this project gives its linters find what they are for: each is broken once, in a copy."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
import yaml
from sizes import LIMIT, complaints

import harness.cases

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

import wheel  # noqa: E402

SOURCES = ("harness", "vm")
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a directory with the packages and the configuration of the linters."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in SOURCES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def lint_imports(directory: Path) -> str:
    """Return what import-linter says of the packages below a directory, which it is not content with."""
    done = subprocess.run(
        [PROGRAMS / "lint-imports", "--no-cache", "--no-logo"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


FOR_TYPES = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    "
AGAINST_A_RULE = {
    "harness": ("harness/loader/btf.py", f"{FOR_TYPES}import harness.kernel.release"),
    "vm": ("vm/base/errors.py", f"{FOR_TYPES}import vm.guest.pid1"),
    "circles": ("harness/model/abi.py", f"{FOR_TYPES}import harness.model.rules"),
    "harness-without-vm": ("harness/trace/headers.py", "import vm.plugin"),
    "vm-without-sockets": ("vm/plugin.py", "import harness.model.layout"),
    "pure-model": ("harness/model/rules.py", "import subprocess"),
    "wrapped": ("harness/group/delivery.py", "import scapy"),
    "commands": ("harness/commands/ledger.py", "import harness.commands.programs"),
    "plugins": ("harness/plugins/gate.py", "import harness.plugins.witness"),
}
"""An import against each contract of pyproject.toml, by the contract's id."""


def contracts() -> dict[str, str]:
    """Return the name of each contract by its id."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}


def test_an_import_against_each_rule_is_found(copy: Path) -> None:
    for file, line in AGAINST_A_RULE.values():
        with (copy / file).open("a") as source:
            source.write(f"\n{line}\n")
    said = lint_imports(copy)
    broken = {key for key, name in contracts().items() if re.search(rf"^{re.escape(name)} ?BROKEN", said, re.MULTILINE)}
    assert broken == set(AGAINST_A_RULE), said


def test_every_rule_is_broken_once() -> None:
    assert set(AGAINST_A_RULE) == set(contracts())


def test_a_module_beside_the_packages_is_found(copy: Path) -> None:
    (copy / "harness/helpers.py").touch()
    assert "helpers" in lint_imports(copy)


def test_no_import_leads_back() -> None:
    """import-linter compares siblings; this finds a package and a module of it that import each other, too."""
    graph = grimp.build_graph("harness", "vm", cache_dir=None)
    imports = {(module, found) for module in graph.modules for found in graph.find_modules_directly_imported_by(module)}
    sorter = TopologicalSorter[str]()
    for importer, imported in imports:
        sorter.add(importer, imported)
    sorter.prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize(
    "module",
    [
        "vm.guest.pid1",
        "vm.guest.run_command",
        "vm.remote.checkout",
        "vm.base.fingerprint",
        "vm.base.pump",
        "harness.interface",
        "harness.model",
    ],
)
def test_what_runs_before_an_environment_is_there_needs_the_standard_library_alone(module: str) -> None:
    """The guest's first process runs with `python -I -S`; `vm.remote.checkout` is sent to other machines as text."""
    graph = grimp.build_graph("harness", "vm", include_external_packages=True, cache_dir=None)
    imported = graph.find_upstream_modules(module, as_package=True)
    assert {name.partition(".")[0] for name in imported} - {"harness", "vm"} <= sys.stdlib_module_names


def test_pre_commit_runs_what_tox_runs() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [
        hook["entry"].replace(".tox/lint/bin/", "", 1).replace("PATH=.tox/lint/bin:$PATH; ", "") for hook in hooks
    ] == tox["testenv:lint"]["commands"].strip().splitlines()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed, so there is nothing to hook into")
def test_hooks_are_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)
    # As a hook of git itself this test has the project's repository in its environment.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, env=mine, check=True)
    subprocess.run([PROGRAMS / "pre-commit", "install"], cwd=tmp_path, env=mine, check=True)
    assert (tmp_path / ".git/hooks/pre-commit").exists()


def test_a_release_collects_what_changed(copy: Path) -> None:
    shutil.copy(ROOT / "CHANGELOG.md", copy)
    shutil.copytree(ROOT / "changelog.d", copy / "changelog.d")
    (copy / "changelog.d/+new.added.md").write_text("Something new.\n")
    subprocess.run([PROGRAMS / "towncrier", "build", "--version", "0.2.0", "--yes"], cwd=copy, check=True)
    news = (copy / "CHANGELOG.md").read_text()
    assert news.index("## 0.2.0 (") < news.index("- Something new.") < news.index("## 0.1.0 (")
    assert [file.name for file in (copy / "changelog.d").iterdir()] == ["README.md"]


def test_a_file_over_the_limit_is_named(copy: Path) -> None:
    (copy / "vm/plugin.py").write_text("\n" * (LIMIT + 1))
    (found,) = (said for said in complaints(copy) if said.startswith("vm/plugin.py"))
    assert "has 301 lines" in found


@pytest.fixture(scope="module")
def beside_the_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example repository, and beside it the environment `venv` that has the wheel's files."""
    tmp_path = tmp_path_factory.mktemp("beside")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel.build(tmp_path)).extractall(packages)
    # What it depends on is installed for the linters.
    (packages / "linters.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return wheel.example(tmp_path)


def mypy(repository: Path, *files: str) -> str:
    """Return what mypy says of files of the repository, of which no setting of this project holds."""
    command = [str(PROGRAMS / "mypy"), "--strict", "--python-executable", str(repository.parent / "venv/bin/python")]
    done = subprocess.run([*command, *files], cwd=repository, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_what_a_user_may_rely_on_has_types_in_the_wheel(beside_the_wheel: Path) -> None:
    assert mypy(beside_the_wheel, "tests").startswith("Success: no issues found")
    names = harness.cases.__all__
    asked = [f"from harness.cases import {', '.join(names)}", *(f"reveal_type({name})" for name in names)]
    (beside_the_wheel / "asked.py").write_text("\n".join(asked))
    said = re.findall(r'Revealed type is "(.*)"', mypy(beside_the_wheel, "asked.py"))
    assert len(said) == len(names)
    assert [line for line in said if "Any" in line.split()] == []


def test_a_wrong_use_of_a_fixture_is_found_by_its_type(beside_the_wheel: Path) -> None:
    wrong = "from harness.cases import Bench\ndef test(bench: Bench) -> None:\n    bench.group('four')\n"
    (beside_the_wheel / "wrong.py").write_text(wrong)
    assert 'has incompatible type "str"; expected "int"' in mypy(beside_the_wheel, "wrong.py")

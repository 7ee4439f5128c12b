# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pipelines test the kernels of the matrix, all of them and no other, by commands that exist.

Whether GitHub and GitLab take the files is for `tox -e lint`, which holds them against their schemas.
"""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from vm.__main__ import main as vm_command
from vm.kernels.catalogue import load_catalogue
from vm.kernels.obtain import select

ROOT = Path(__file__).resolve().parents[2]
GITHUB: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/kernels.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
MATRIX = [selection.name for selection in select(["all"], catalogue=load_catalogue())]

SCRIPTS: dict[str, list[str]] = {
    "GitHub": [step["run"] for job in GITHUB["jobs"].values() for step in job["steps"] if "run" in step],
    "GitLab": [line for job in GITLAB.values() if isinstance(job, dict) for line in job.get("script", ())],
}
COMMANDS = [
    pytest.param(shlex.split(line)[1:], id=f"{forge}: {line}")
    for forge, lines in SCRIPTS.items()
    for line in lines
    if line.startswith("./bootstrap")
]


def test_github_has_a_job_for_each_kernel_of_the_matrix() -> None:
    assert GITHUB["jobs"]["kernel"]["strategy"]["matrix"] == {"kernel": MATRIX}


def test_gitlab_has_a_job_for_each_kernel_of_the_matrix() -> None:
    assert GITLAB["kernel"]["parallel"]["matrix"] == [{"KERNEL": MATRIX}]


@pytest.mark.parametrize("forge", SCRIPTS)
def test_the_commands_of_the_readme_are_run(forge: str) -> None:
    shown = re.findall(r"^\./bootstrap [^#\n]*[^# \n]", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(shown) == 2
    assert [command for command in shown if not any(line.startswith(command) for line in SCRIPTS[forge])] == []


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    match words:
        case ["tox"]:
            pass
        case ["tox", "-e", environment, "--", "--kernel", "$KERNEL"]:
            assert tox.has_section(f"testenv:{environment}")
        case ["python", "-m", "vm", command, *arguments]:
            with pytest.raises(SystemExit) as ended:
                vm_command([command, *arguments, "--help"])
            assert ended.value.code == 0
            assert f"python -m vm {command}" in capsys.readouterr().out
        case _:
            pytest.fail(f"{words}: nothing here knows how to check it")


@pytest.mark.parametrize("job", GITHUB["jobs"])
def test_expressions_name_what_the_job_has(job: str) -> None:
    """A misspelt `matrix.` or `steps.` is an empty string to GitHub."""
    strategy = GITHUB["jobs"][job].get("strategy", {"matrix": {}})
    known = {f"matrix.{name}" for name in strategy["matrix"]}
    known |= {f"steps.{step['id']}" for step in GITHUB["jobs"][job]["steps"] if "id" in step}
    expressions = re.findall(r"\$\{\{(.*?)\}\}", yaml.safe_dump(GITHUB["jobs"][job]), flags=re.DOTALL)
    named = {name for expression in expressions for name in re.findall(r"\b(?:matrix|steps)\.\w+", expression)}
    assert named <= known

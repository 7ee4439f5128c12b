# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`./bootstrap` asks bindep for what its command needs, installs what is missing, and says what it cannot."""

from __future__ import annotations

import configparser
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vm.commands import COMMANDS
from vm.kernels.build import _TOOLS as BUILD_TOOLS

ROOT = Path(__file__).resolve().parents[2]

BINDEP = """#!/bin/sh
shift 3  # --brief --file FILE
echo "profiles: $*" >>"$SAID"
case " $* " in *" outcomes "*) echo openssh-server ;; esac
"""
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$SAID"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a directory that is set up but for the packages, with stand-ins for bindep and apt-get in bin/."""
    for name in ("bootstrap", "pyproject.toml", "bindep.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = {".venv/bin/bindep": BINDEP, ".venv/bin/tox": "#!/bin/sh\nexit 7\n", "bin/apt-get": APT_GET}
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    made_of = (tmp_path / "pyproject.toml").read_bytes() + (tmp_path / "bootstrap").read_bytes()
    (tmp_path / ".venv/.bootstrap").write_text(f"{hashlib.sha256(made_of).hexdigest()}  -\n")
    return tmp_path


def bootstrap(checkout: Path, *words: str, user: int = 0, **variables: str) -> tuple[int, list[str], str]:
    """Run it as if by `user`; return its exit status, what the stand-ins were told, and what it said."""
    for name in ("bash", "sh", "env", "cat", "sha256sum", "dirname", "tr", "grep"):
        if not (checkout / "bin" / name).exists():
            (checkout / "bin" / name).symlink_to(shutil.which(name) or name)
    (checkout / "bin/id").write_text(f"#!/bin/sh\necho {user}\n")
    (checkout / "bin/id").chmod(0o755)
    said = checkout / "said"
    said.write_text("")
    done = subprocess.run(
        [checkout / "bootstrap", *words],
        env={"PATH": f"{checkout}/bin", "SAID": str(said), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, said.read_text().splitlines(), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], ""),
        (["tox"], "tox"),
        (["tox", "-e", "vm,outcomes", "-q"], "tox vm outcomes"),
        (["tox", "--env=fresh"], "tox fresh"),
        (["tox", "-e", "vm", "--", "-k", "outcomes"], "tox vm"),
        (["python", "-m", "vm", "build"], "python vm build"),
        (["tox", "-e", "kernel-faults", "--", "--list"], "tox kernel-faults"),
    ],
)
def test_words_of_the_command_are_the_profiles(checkout: Path, words: list[str], asked: str) -> None:
    (checkout / ".venv/bin/python").symlink_to("tox")
    _, said, _ = bootstrap(checkout, *words)
    assert said[0].removeprefix("profiles:").split() == asked.split()


def test_environments_of_the_variable_count_too(checkout: Path) -> None:
    _, said, _ = bootstrap(checkout, "tox", TOXENV="outcomes")
    assert said[0] == "profiles: outcomes tox"


def test_what_is_missing_is_installed_before_the_command_runs(checkout: Path) -> None:
    status, said, _ = bootstrap(checkout, "tox", "-e", "outcomes")
    assert said[1:] == ["apt-get install -y --no-install-recommends openssh-server"]
    assert status == 7


def test_nothing_missing_needs_no_root(checkout: Path) -> None:
    status, said, _ = bootstrap(checkout, "tox", "-e", "vm", user=1000)
    assert said == ["profiles: tox vm"]
    assert status == 7


def test_without_root_and_sudo_the_command_to_run_is_named(checkout: Path) -> None:
    status, said, output = bootstrap(checkout, "tox", "-e", "outcomes", user=1000)
    assert status == 1
    assert [line for line in said if "apt-get" in line] == []
    assert "run as root: env DEBIAN_FRONTEND=noninteractive apt-get install" in output
    assert output.rstrip().endswith("openssh-server")


def test_unknown_option_is_named_and_nothing_is_done(checkout: Path) -> None:
    status, said, output = bootstrap(checkout, "--hlep")
    assert (status, said) == (2, [])
    assert output.endswith("bootstrap: there is no option --hlep\n")


def test_help_needs_nothing(checkout: Path) -> None:
    status, said, output = bootstrap(checkout, "--help")
    assert (status, said) == (0, [])
    assert "usage: ./bootstrap" in output


def profiles() -> dict[str, list[str]]:
    """Return the packages of each profile of bindep.txt."""
    found: dict[str, list[str]] = {}
    for package, selectors in re.findall(r"^(\S+) \[(.*)\]$", (ROOT / "bindep.txt").read_text(), re.MULTILINE):
        for word in selectors.split():
            if not word.startswith("platform:"):
                found.setdefault(word, []).append(package)
    return found


def test_every_profile_is_a_word_of_a_command_and_the_help_names_it() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    environments = {section.removeprefix("testenv:") for section in tox.sections()}
    commands = {module.__name__.rpartition(".")[2] for module in COMMANDS}  # type: ignore[attr-defined]
    assert profiles().keys() <= environments | commands
    script = (ROOT / "bootstrap").read_text()
    assert [name for name in profiles() if f'"{name}" for ' not in script] == []


def test_tools_of_a_build_are_in_its_profile_or_for_every_command() -> None:
    every = re.findall(r"^([\w-]+)(?: \[platform:\w+\])?$", (ROOT / "bindep.txt").read_text(), re.MULTILINE)
    assert set(BUILD_TOOLS.values()) <= {*profiles()["build"], *every}
    assert set(profiles()["build"]) < set(profiles()["kernel-faults"]), "which builds a kernel as well"

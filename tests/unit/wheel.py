# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Build the project's wheel and install it in a clean virtual environment, as the author of a server does."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests/examples/quic-server"


def build(directory: Path) -> Path:
    """Return the wheel, built of the checkout's files."""
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(directory), str(ROOT))
    (wheel,) = directory.glob("*.whl")
    return wheel


def installed(directory: Path) -> Path:
    """Return the Python of a new virtual environment that has the wheel and what it depends on, and nothing else."""
    wheel = build(directory / "wheel")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory / "venv")], check=True)
    python = directory / "venv/bin/python"
    _pip(sys.executable, "--python", str(python), "install", str(wheel))
    return python


def example(directory: Path) -> Path:
    """Return a copy of the example repository, away from the checkout."""
    shutil.copytree(EXAMPLE, directory / "quic-server")
    return directory / "quic-server"


def tox_command() -> str:
    """Return the command of the example's tox.ini, without what it gives pytest by default."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(EXAMPLE / "tox.ini")
    command, _, rest = tox["testenv:steering"]["commands"].partition(" {posargs:")
    assert rest == "--vm}"
    return command


def run(python: Path, words: list[str], directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page in a directory, with its `python` the installed one."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    words = [str(python) if word == "python" else word for word in words]
    return subprocess.run(words, cwd=directory, env=mine | variables, capture_output=True, text=True, check=False)


def _pip(python: str, *words: str) -> None:
    done = subprocess.run([python, "-m", "pip", *words, "--quiet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

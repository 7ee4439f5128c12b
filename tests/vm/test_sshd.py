# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Other machines through a real sshd on the loopback: the tests of --on again, with ssh in place of its stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_machines_are_reached_by_ssh() -> None:
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert sshd, "sshd is not installed: './bootstrap tox -e outcomes' installs it, as does the package openssh-server"
    tests = [sys.executable, "-m", "pytest", "-q", "tests/unit/test_remote.py"]
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        tests, cwd=ROOT, env={**mine, "REUSEPORT_TEST_SSHD": sshd}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr

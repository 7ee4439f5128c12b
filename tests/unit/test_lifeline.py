# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program that has a lifeline ends with the process that started it, even when that is killed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

STARTER = """
import subprocess, sys
from vm.base.lifeline import lifeline
# What it prints says that setpriv has done its work.
subprocess.run([*lifeline("TERM"), "sh", "-c", "echo $$; exec sleep 600"])
"""


def test_a_program_ends_with_the_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        program = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
    ended, _, _ = select.select([program], [], [], 30)
    os.close(program)
    assert ended

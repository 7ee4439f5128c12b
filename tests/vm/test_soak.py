# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e soak`, on cases that lose something each time they run."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from started import KERNEL, ROOT

if TYPE_CHECKING:
    import pytest

LOSES_SOCKETS = """
import os
import socket
import time

def test_what_lives_on():
    kept = [socket.socket() for _ in range(3)]
    if os.fork() == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        time.sleep(10_000)
"""


def test_sockets_that_each_round_leaves_are_told(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cases = tmp_path / "test_lost.py"
    cases.write_text(LOSES_SOCKETS)
    command = [sys.executable, "-m", "tests.soak", "--kernel", KERNEL, "--minutes", "1.5", str(cases)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    directory = Path(re.findall(r"^results: (.+)$", ended.stdout, re.MULTILINE)[0])
    request.addfinalizer(lambda: shutil.rmtree(directory))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    rows = [[cell.strip() for cell in line.split("│")] for line in ended.stdout.splitlines() if line.startswith("│")]
    told = {row[1]: row[-3:-1] for row in rows}
    assert told["sockets"] == ["+3.0", "GREW"]
    assert told["maps"] == ["+0.0", "flat"]
    sockets = [json.loads(line)["sockets"] for line in (directory / "samples.jsonl").read_text().splitlines()]
    assert [later - before for before, later in itertools.pairwise(sockets)] == [3] * (len(sockets) - 1)
    assert "sockets" in (directory / "counts.svg").read_text()

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The wheel's plugin in somebody else's repository, in a VM: what docs/ten-minutes.md promises."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

import wheel  # noqa: E402


def test_a_server_s_tests_run_in_a_vm(tmp_path: Path) -> None:
    python, repository = wheel.installed(tmp_path), wheel.example(tmp_path)
    done = wheel.run(python, [*shlex.split(wheel.tox_command()), "--vm", "--kernel", "6.1"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    (kernel,) = json.loads((repository / "results/latest/results.json").read_text())["kernels"]
    assert kernel["release"].startswith("6.1.")
    assert [case["outcome"] for case in kernel["cases"]] == ["passed"] * 3


def test_the_general_cases_run_in_a_vm(tmp_path: Path) -> None:
    python, repository = wheel.installed(tmp_path), wheel.example(tmp_path)
    words = shlex.split("python -m pytest --pyargs harness.conformance.test_own_program --program server.bpf.c")
    done = wheel.run(python, [*words, "--vm", "--kernel", "6.1"], repository)
    assert done.returncode == 0, done.stdout + done.stderr

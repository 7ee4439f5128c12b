# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The wheel's plugin in somebody else's repository, in VMs: what docs/ten-minutes.md promises."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

import wheel  # noqa: E402
from documented import commands  # noqa: E402

GENERAL = "python -m pytest --pyargs harness.conformance.test_own_program --program"

NEWER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
SEC("sk_reuseport")
int newer(struct sk_reuseport_md *ctx) { return bpf_ktime_get_tai_ns() ? SK_PASS : SK_DROP; }
"""
"""Linux 6.1 has bpf_ktime_get_tai_ns() (c8996c98f703); 5.10 has fewer than 208 helpers."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return wheel.example(tmp_path)


def kernels(repository: Path) -> dict[str, Any]:
    """Return the results of each kernel by its name."""
    found = json.loads((repository / "results/latest/results.json").read_text())["kernels"]
    return {kernel["name"]: kernel for kernel in found}


def test_a_server_s_tests_run_in_a_vm(python: Path, repository: Path) -> None:
    done = wheel.run(python, [*shlex.split(wheel.tox_command()), "--vm", "--kernel", "6.1"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    (kernel,) = kernels(repository).values()
    assert kernel["release"].startswith("6.1.")
    assert [case["outcome"] for case in kernel["cases"]] == ["passed"] * 3


def test_the_general_cases_run_in_a_vm(python: Path, repository: Path) -> None:
    done = wheel.run(python, shlex.split(f"{GENERAL} server.bpf.c --vm --kernel 6.1"), repository)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_restart_runs_in_a_vm(python: Path, repository: Path) -> None:
    (command,) = (one for one in commands("docs/ten-minutes.md") if "vm run" in one)
    done = wheel.run(python, shlex.split(command), repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "│ program " in done.stdout


def test_a_kernel_that_refuses_the_program_fails_with_the_log_and_the_others_run(
    python: Path, repository: Path
) -> None:
    (repository / "newer.bpf.c").write_text(NEWER)
    command = f"{GENERAL} newer.bpf.c --vm --kernel 5.10 --kernel 6.1 -k 'attaches and udp'"
    done = wheel.run(python, shlex.split(command), repository)
    assert done.returncode == 1, done.stdout + done.stderr
    found = kernels(repository)
    assert {name: kernel["outcome"] for name, kernel in found.items()} == {"5.10": "failed", "6.1": "passed"}
    first, second = (case["reason"] for case in found["5.10"]["cases"])
    assert first.startswith("Failed: this kernel (5.10.")
    assert "refuses the program: load newer" in first
    assert second.endswith("(the first failed case shows the log)")
    assert done.stdout.count("invalid func unknown#208") == 1
    assert [case["outcome"] for case in found["6.1"]["cases"]] == ["passed"] * 2

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In a VM without the kernel's headers, or without bcc: cases run, and a line says why there is no witness."""

from __future__ import annotations

import shutil
from html import unescape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from started import KERNEL, ROOT, started

from vm.boot.session import take_kernel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSES = "test_payload_too_short_for_a_command_drops[udp-ipv4-any-sockarray]"
FAILS = "test_every_member_is_reached_by_its_index[udp-ipv4-any-sockarray]"

# What is to be dropped is, and nothing else arrives.
WRONG = f"""
#include <linux/bpf.h>
#define SK_PASS SK_DROP
#include "{ROOT}/bpf/reference.bpf.c"
"""

# In the guest an empty file system over bcc hides it as if it had never been installed (tests/docs does so natively).
WITHOUT_BCC = """
import importlib.util
import subprocess
from pathlib import Path

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        bcc = importlib.util.find_spec("bcc")
        subprocess.run(["mount", "-t", "tmpfs", "none", Path(bcc.origin).parents[1]], check=True)
"""


def demand_told(directory: Path, kernel: str, *reason: str, variables: Mapping[str, str] = {}) -> None:
    """Run a case that passes and one that fails; hold all that is said against the words of the `reason`."""
    wrong = directory.parent / "wrong.bpf.c"
    wrong.write_text(WRONG)
    arguments = ("-p", "harness.plugin", "--kernel", kernel, "--program", f"reference={wrong}")
    cases = "(too_short or every_member) and udp-ipv4-any-sockarray"
    source = ROOT / "cases/test_reference.py"
    with started(directory, *arguments, cases=cases, source=source, variables=variables) as run:
        assert run.ended() == 1, run.output
    assert run.outcomes == {PASSES: "passed", FAILS: "failed"}
    (line,) = (line for line in run.output.splitlines() if line.startswith("no witness: "))
    for words in reason:
        assert words in line
    latest = directory / "results/latest"
    (entry,) = (one for one in ElementTree.parse(latest / "junit.xml").iter("testcase") if one.get("name") == FAILS)
    for where in (run.output, str(entry.findtext("system-out")), unescape((latest / "report.html").read_text())):
        assert f"there is {line}" in where


def test_without_the_kernel_s_headers(tmp_path: Path) -> None:
    """A kernel that was unpacked from its package, without the one of its headers."""
    kernel = take_kernel(KERNEL, mirror=None)
    assert kernel.modules is not None
    assert kernel.config is not None
    unpacked = tmp_path / "unpacked"
    modules = unpacked / "lib/modules" / kernel.release
    modules.mkdir(parents=True)
    (modules / "kernel").symlink_to(kernel.modules / "kernel")
    (unpacked / "boot").mkdir()
    shutil.copy(kernel.image, unpacked / f"boot/vmlinuz-{kernel.release}")
    shutil.copy(kernel.config, unpacked / f"boot/config-{kernel.release}")
    demand_told(
        tmp_path / "run",
        str(unpacked),
        f"there are no headers of {kernel.release} where bcc looks",
        "set BCC_KERNEL_SOURCE to a tree of that kernel",
        f"install linux-headers-{kernel.release}",
        variables={"XDG_CACHE_HOME": str(tmp_path / "cache")},  # the store would keep this kernel
    )


def test_without_bcc(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/conftest.py").write_text(WITHOUT_BCC)
    demand_told(tmp_path / "run", KERNEL, "bcc is not installed: run ./bootstrap")

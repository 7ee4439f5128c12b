# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A fault that is planted in one of the programs is found by a campaign alone, made short, and kept (needs root)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.preflight import missing_requirement

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
MOST_STEPS = 6
NEEDED = ("bpf", "cases", "harness", "vm", "conftest.py", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An edit of one file under bpf/, the kind of history that can find it, and what the kernel is then seen to do."""

    file: str
    right: str
    wrong: str
    protocol: str
    sentence: str


FAULTS = {
    "place-of-two-bits": Fault(
        file="filter_index.bpf.c",
        right="return place;",
        wrong="return place & 3;",
        protocol="tcp",
        sentence="reaches socket",
    ),
    "failure-is-left-to-the-hash": Fault(
        file="select.h",
        right="\tif (pass_on_failure)\n",
        wrong="\tif (pass_on_failure || error == -2)\n",
        protocol="udp",
        sentence="not no socket",
    ),
    "ipv6-is-not-counted": Fault(
        file="select.h",
        right="\t__sync_fetch_and_add(count, 1);\n\treturn decision",
        wrong="\tif (packet->seen.eth_protocol == bpf_htons(ETH_P_IP))\n"
        "\t\t__sync_fetch_and_add(count, 1);\n\treturn decision",
        protocol="udp",
        sentence="programs count",
    ),
}


@pytest.fixture(autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.skip(reason)


def run(checkout: Path, *options: str) -> tuple[int, str]:
    """Run the campaign's cases of a checkout; return the exit status and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(checkout / "pyproject.toml"), "--rootdir", str(checkout),
         "-p", "harness.plugin", "-p", "vm.plugin", "-p", "no:cacheprovider", "--where-possible",
         "cases/test_histories.py", *options],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def kept(checkout: Path) -> Sequence[Path]:
    return list((checkout / "results/histories").glob("*.json"))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_fault_is_found_and_made_short(tmp_path: Path, fault: Fault) -> None:
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    planted = tmp_path / "bpf" / fault.file
    text = planted.read_text()
    assert text.count(fault.right) == 1, f"{fault.file} is not as this test knows it"
    planted.write_text(text.replace(fault.right, fault.wrong))

    status, said = run(tmp_path, "-k", f"lives_as and {fault.protocol}", "--campaign", str(SECONDS))
    assert status == 1, said
    assert "As a case to paste" in said
    (found,) = kept(tmp_path)
    saved = json.loads(found.read_text())
    assert fault.sentence in saved["sentence"]
    assert len(saved["steps"]) <= MOST_STEPS, saved["steps"]

    again = ("-k", f"lives_as and {fault.protocol}", "--replay", str(found))
    status, said = run(tmp_path, *again)
    assert status == 1, said
    assert saved["sentence"] in said
    planted.write_text(text)
    status, said = run(tmp_path, *again)
    assert status == 0, said

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A fault that is planted in one of the programs is found by a campaign alone, made short, and kept (needs root)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.preflight import missing_requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
MOST_STEPS, MOST_STEPS_OF_A_PAIR = 8, 20
"""Six and fewer on an idle machine; on a busy one there is no time to leave out all that could be."""

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


PLANTED_IN_PAIRS = "harness/plugins/lives.py", "port=other_port, programs=1", "port=other_port, programs=0"
"""Both histories of a pair use the same programs, and each finds what the other put into slots."""


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


def plant(checkout: Path, file: str, right: str, wrong: str) -> Callable[[], object]:
    """Make a copy of the checkout with a fault; return the function that mends it."""
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / name)
    planted = checkout / file
    text = planted.read_text()
    assert text.count(right) == 1, f"{file} is not as this test knows it"
    planted.write_text(text.replace(right, wrong))
    return lambda: planted.write_text(text)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_fault_is_found_and_made_short(tmp_path: Path, fault: Fault) -> None:
    mend = plant(tmp_path, f"bpf/{fault.file}", fault.right, fault.wrong)
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
    mend()
    status, said = run(tmp_path, *again)
    assert status == 0, said


def test_difference_of_a_pair_is_kept_made_short_and_tried_again(tmp_path: Path) -> None:
    """What only two histories at once show is kept as a pair; replayed, it says how often it differed."""
    mend = plant(tmp_path, *PLANTED_IN_PAIRS)
    status, said = run(tmp_path, "-k", "at_once and two-ports", "--campaign", str(SECONDS))
    assert status == 1, said
    (found,) = kept(tmp_path)
    saved = json.loads(found.read_text())
    assert saved["format"] == "reuseport pair"
    assert len(saved["first"]) + len(saved["second"]) <= MOST_STEPS_OF_A_PAIR, said

    again = ("-k", "at_once", "--replay", str(found))
    # Ten tries may fall together well on a busy machine.
    tries = (run(tmp_path, *again) for _ in range(5))
    said = next((said for status, said in tries if status == 1), "in fifty tries no difference")
    assert re.search(r"it differed in \d+ of 10 tries", said), said
    mend()
    status, said = run(tmp_path, *again)
    assert status == 0, said
    assert "10 of 10 tries of a pair of histories on two ports: no difference" in said

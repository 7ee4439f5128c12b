# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness restart` on the running kernel (needs root): the page's commands run, bad input is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

from documented import commands  # noqa: E402

BY_SLOT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} members SEC(".maps");
SEC("sk_reuseport")
int by_slot(struct sk_reuseport_md *ctx)
{
	__u8 first = 0, number = 0;
	__u32 slot;

	if (bpf_skb_load_bytes(ctx, 8, &first, 1) || bpf_skb_load_bytes(ctx, AT, &number, 1))
		return SK_DROP;
	slot = number;
	if (first == 0x40)
		bpf_sk_select_reuseport(ctx, &members, &slot, 0);
	return SK_PASS;
}
"""


def restart(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "restart", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    if "refused" not in request.node.name and (reason := missing_requirement()):
        pytest.skip(reason)


@pytest.fixture
def by_slot(tmp_path: Path) -> Path:
    (tmp_path / "by_slot.bpf.c").write_text(BY_SLOT)
    return tmp_path / "by_slot.bpf.c"


@pytest.mark.parametrize("command", commands("docs/restart.md"))
def test_commands_of_the_page_run(command: str, by_slot: Path) -> None:
    words = command.replace("my.bpf.c", str(by_slot)).split()
    assert words[:4] == ["python", "-m", "harness", "restart"]
    done = restart(*words[4:], *(["--program-option", "define=AT=9"] if "--program" in command else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "began at" in done.stdout


def test_an_id_that_is_too_short_reaches_nobody(by_slot: Path) -> None:
    done = restart("--program", str(by_slot), "--program-option", "define=AT=12", "--known", "40SS")
    assert done.returncode == 1
    assert "program: no socket got the packet of the old client 0 when A runs" in done.stdout


@pytest.mark.parametrize(("mask", "by_hash"), [("7", False), ("0x40", True)])
def test_a_constant_is_what_the_option_says(mask: str, *, by_hash: bool) -> None:
    """Every first byte & 7 is 0 here: worker 0 gets all new clients. & 0x40 it is 64, and no worker is at that key."""
    program = ("--program", "tests/examples/one_slot_each.bpf.c", "--program-option", f"constant=mask={mask}")
    done = restart("--strategy", "handover", *program)
    new_clients = [line for line in done.stdout.splitlines() if "│ new" in line][-1]
    assert ("│ A 16 " not in new_clients) is by_hash, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--migrate",), "--migrate and --leaving shutdown are for --protocol tcp"),
        (("--leaving", "shutdown"), "--migrate and --leaving shutdown are for --protocol tcp"),
        (("--known", "40SS"), "--program-option and --known are for a program of your own"),
        (("--program", "nowhere.o"), "there is no file 'nowhere.o'"),
        (("--program", "tests/examples/by_cpu.ddd", "--known", "4000"), "has no row of S"),
        (("--program", "tests/examples/by_cpu.ddd", "--known", "40S"), "non-hexadecimal number"),
        (("--program", "tests/examples/by_cpu.ddd", "--known", "4S", "--old", "15"), "one digit is too few for 19"),
        (("--program", "tests/examples/by_cpu.ddd", "--program-option", "x=1"), "'x=1' is no option of a program"),
        (("--old", "0"), "argument --old: '0': give a whole number from 1 to "),
        (("--clients", "5000"), "argument --clients: '5000': give a whole number from 1 to "),
    ],
)
def test_mistakes_are_refused(words: tuple[str, ...], says: str) -> None:
    done = restart(*words)
    assert done.returncode == 2
    assert says in done.stderr

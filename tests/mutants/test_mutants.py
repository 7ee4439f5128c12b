# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Break the programs and the model, one line at a time, and demand that the cases notice.

A check that cannot fail is none. Each mutant is a copy of the tree with one line changed; the cases run there on the
running kernel (root needed) and have to end with a failed case whose difference names what was broken. Where program
and model are changed alike, they agree, and only what the case itself states can notice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one file, the cases to run (`-k`) and the words that their failure has to say."""

    name: str
    file: str
    line: str
    instead: str
    cases: str
    says: str
    alike: tuple[str, str, str] | None = None
    """A second change, of the model: its file, the line, and what stands there instead."""


MUTANTS = (
    Mutant(
        name="program-selects-the-next-index",
        file="bpf/select.h",
        line="error = bpf_sk_select_reuseport(ctx, inner_map, key, 0);",
        instead="__u32 next = *(__u32 *)key + 1; error = bpf_sk_select_reuseport(ctx, inner_map, &next, 0);",
        cases="every_member and udp-ipv4",
        says="the packet reached member 1 instead of member 0",
    ),
    Mutant(
        name="program-passes-instead-of-dropping",
        file="bpf/select.h",
        line="return decision.result < PASS ? SK_DROP : SK_PASS;",
        instead="return SK_PASS;",
        cases="short and tcp-ipv6",
        says="what should have been dropped",
    ),
    Mutant(
        name="program-ignores-pass-on-failure",
        file="bpf/select.h",
        line="if (pass_on_failure)",
        instead="if (!pass_on_failure)",
        cases="passes_on_to_the_hash and udp-ipv6",
        says="DROP_ERR_SK_SELECT_REUSEPORT",
    ),
    Mutant(
        name="program-keeps-the-override",
        file="bpf/select.h",
        line="*override = -1;",
        instead="*override = *index;",
        cases="override_counts and tcp-ipv4",
        says="override 9",
    ),
    Mutant(
        name="program-reads-fragments-at-the-wrong-offset",
        file="bpf/select.h",
        line="if (bpf_skb_load_bytes(ctx, packet->payload, cmd, sizeof(*cmd)))",
        instead="if (bpf_skb_load_bytes(ctx, packet->payload + 4, cmd, sizeof(*cmd)))",
        cases="fragmented_command_is_read and udp-ipv4",
        says="instead of member",
    ),
    Mutant(
        name="program-records-another-length",
        file="bpf/select.h",
        line="seen->len = ctx->len;",
        instead="seen->len = ctx->len + 1;",
        cases="every_member and tcp-ipv4",
        says="data_check_map holds another record",
    ),
    Mutant(
        name="program-counts-twice",
        file="bpf/select.h",
        line="__sync_fetch_and_add(count, 1);",
        instead="__sync_fetch_and_add(count, 2);",
        cases="every_member and udp-ipv6",
        says="result_map counted another result",
    ),
    Mutant(
        name="model-expects-the-next-member",
        file="harness/model/decision.py",
        line="member = layout.slots.get(index)",
        instead="member = layout.slots.get(index + 1)",
        cases="every_member and udp-ipv4",
        says="the packet reached member 0 instead of member 1",
    ),
    Mutant(
        name="model-scales-the-hash-otherwise",
        file="harness/model/expect.py",
        line="return (value * ends) >> 32",
        instead="return value % ends",
        cases="passes_on_to_the_hash and udp-ipv4",
        says="instead of member",
    ),
    Mutant(
        name="model-forgets-the-reply",
        file="harness/model/expect.py",
        line="return replace(outcome, replies=(_reply(ReplyKind.PORT_UNREACHABLE, packet),))",
        instead="return outcome",
        cases="short and udp-ipv4",
        says="something else went back on the wire",
    ),
    Mutant(
        name="model-takes-cookies-for-requests",
        file="harness/model/expect.py",
        line="if not layout.syncookies or early:",
        instead="if True:",
        cases="syncookie_lets_the_ack and tcp-ipv4",
        says="instead of member",
    ),
    Mutant(
        name="program-and-model-hash-keys-otherwise",
        file="bpf/hash.h",
        line="word *= 0x85ebca6b;",
        instead="word *= 0x85ebca6d;",
        alike=(
            "harness/model/consistent_hashing.py",
            "word = word * 0x85EBCA6B & _WORD",
            "word = word * 0x85EBCA6D & _WORD",
        ),
        cases="content_of_udp and udp-ipv4",
        says="!= 23",
    ),
    Mutant(
        name="program-and-model-read-addresses-otherwise",
        file="bpf/hash.h",
        line="__u32 hash = fmix32(packet->seen.skb_addrs[0]);",
        instead="__u32 hash = fmix32(packet->seen.skb_addrs[0] + 1);",
        alike=(
            "harness/model/consistent_hashing.py",
            "result = fmix32(result ^ word)",
            "result = fmix32(word + 1)",
        ),
        cases="client_keeps_its_member_whatever and udp-ipv4",
        says="!= 23",
    ),
    Mutant(
        name="program-and-model-draw-otherwise",
        file="bpf/random.bpf.c",
        line="next ^= next << 17;",
        instead="next ^= next << 19;",
        alike=("harness/model/rules.py", "state ^= state << 17 & _MEMORY", "state ^= state << 19 & _MEMORY"),
        cases="random_draws and udp-ipv4",
        says="At index ",
    ),
    Mutant(
        name="program-and-model-count-another-length",
        file="bpf/select.h",
        line="seen->len = ctx->len;",
        instead="seen->len = ctx->len + 1;",
        alike=("harness/model/expect.py", "        length=length,\n", "        length=length + 1,\n"),
        cases="bytes_behind_the_ip_packet and udp-ipv4",
        says="At index 1 diff: 17 != 16",
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_cases_notice(mutant: Mutant, tmp_path: Path) -> None:
    if reason := missing_requirement():
        pytest.skip(reason)
    for name in ("bpf", "cases", "harness", "vm"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for file, line, instead in ((mutant.file, mutant.line, mutant.instead), *filter(None, [mutant.alike])):
        text = (tmp_path / file).read_text()
        assert text.count(line) == 1, f"{file} has no such line any more, or several: {line}"
        (tmp_path / file).write_text(text.replace(line, instead))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", mutant.cases],
        cwd=tmp_path,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert mutant.says in run.stdout

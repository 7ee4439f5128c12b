# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""--program with each kind of program, on the running kernel (needs root): what runs, what is refused, and where."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

from documented import as_on_this_kernel, commands  # noqa: E402

EXAMPLES = "tests/examples"


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.exit(reason, returncode=0)


def run(program: str | Path, *options: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = as_on_this_kernel(f"tox -e vm -- --program {program}")
    given = [word for option in options for word in ("--program-option", option)]
    # Where CI is set, pytest's summary repeats whole messages.
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    return subprocess.run(
        [*words, *given, *more, "-p", "no:cacheprovider"],
        cwd=ROOT, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("legacy_map.bpf.c", ()),
        ("extern_map.bpf.c", ("map=listeners=sockarray,max=8", 'define=SECTION="a_name_of_its_own"')),
        ("extern_map.bpf.c", ("map=listeners=sockmap,max=8",)),
        ("one_slot_each.bpf.c", ("constant=mask=3",)),
        ("two_programs.bpf.c", ("entry=sk_reuseport",)),
    ],
)
def test_each_kind_of_program_passes_the_general_cases(program: str, options: tuple[str, ...]) -> None:
    done = run(f"{EXAMPLES}/{program}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


@pytest.mark.parametrize(
    ("program", "options", "says"),
    [
        ("extern_map.bpf.c", (), "uses listeners, which it does not define"),
        ("two_programs.bpf.c", (), "has more than one program"),
        ("two_programs.bpf.c", ("entrance=f",), "--program-option 'entrance=f' is no option of a program"),
        ("by_cpu.ddd", ("entry=f",), "by_cpu.ddd is a classic program: entry= is for compiled ones"),
        ("by_cpu.ddd", ("define=SLOTS=8",), "by_cpu.ddd is a classic program: define= is for compiled ones"),
    ],
)
def test_what_no_kernel_takes_is_an_error_of_usage(program: str, options: tuple[str, ...], says: str) -> None:
    done = run(f"{EXAMPLES}/{program}", *options)
    assert done.returncode == 4, done.stdout + done.stderr
    assert says in done.stderr


def test_a_jump_out_of_range_is_an_error_of_usage(tmp_path: Path) -> None:
    (tmp_path / "far.ddd").write_text("2\n21 0 1 2054\n6 0 0 0\n")
    done = run(tmp_path / "far.ddd")
    assert done.returncode == 4
    assert (
        "far.ddd is no classic program: instruction 0 (0x15 0 1 0x806) jumps to 2, and the last one is 1" in done.stderr
    )


@pytest.mark.parametrize("extern", [False, True], ids=["libbpf's", "the loader's"])
def test_a_program_that_the_kernel_refuses_shows_its_log_once(tmp_path: Path, *, extern: bool) -> None:
    body = "bpf_sk_select_reuseport(ctx, &socks, &k, 0); " if extern else ""
    (tmp_path / "bad.bpf.c").write_text(f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
extern int socks;
SEC("sk_reuseport")
int bad(struct sk_reuseport_md *ctx) {{ int k = 0; {body}return *((char *)(long)ctx->data + 8) & 1; }}
""")
    done = run(tmp_path / "bad.bpf.c", *(["map=socks=sockarray"] if extern else []), more=("-k", "attaches"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("invalid access to packet, off=8 size=1") == 1
    assert "refuses the program" in done.stdout
    assert "(the first failed case shows the log)" in done.stdout
    assert "PROG LOAD LOG" not in done.stdout


def test_a_program_without_license_runs_unless_a_helper_asks_for_one(tmp_path: Path) -> None:
    """The kernel takes a program that states none; it is refused for bpf_trace_printk(), with the remedy."""
    for name, body in (("plain", ""), ("asks", 'char text[] = "x"; bpf_trace_printk(text, sizeof(text));')):
        (tmp_path / f"{name}.bpf.c").write_text(f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("sk_reuseport")
int any(struct sk_reuseport_md *ctx) {{ {body} return SK_PASS; }}
""")
    assert run(tmp_path / "plain.bpf.c", more=("-k", "attaches")).returncode == 0
    done = run(tmp_path / "asks.bpf.c", more=("-k", "attaches"))
    assert done.returncode == 1
    assert "state a license that is compatible with the GPL" in done.stdout


def test_a_program_that_takes_one_packet_from_each_port_passes_the_general_cases(tmp_path: Path) -> None:
    """What became of a packet is seen from that packet: a second one would be refused."""
    (tmp_path / "once.bpf.c").write_text("""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u16);
	__type(value, __u8);
} had SEC(".maps");
SEC("sk_reuseport")
int once(struct sk_reuseport_md *ctx)
{
	__u16 port;
	__u8 yes = 1;

	if (bpf_skb_load_bytes(ctx, 0, &port, sizeof(port)))
		return SK_DROP;
	return bpf_map_update_elem(&had, &port, &yes, BPF_NOEXIST) ? SK_DROP : SK_PASS;
}
""")
    done = run(tmp_path / "once.bpf.c")
    assert done.returncode == 0, done.stdout + done.stderr


STAND_INS = {
    "ngx_quic_reuseport_helper.c": """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = LICENSE;
extern int ngx_quic_sockmap;
SEC(PROGNAME)
int by_id(struct sk_reuseport_md *ctx)
{
	unsigned char first, id[8];
	__u64 key = 0;

	if (bpf_skb_load_bytes(ctx, 8, &first, 1) || first & 0x80 || bpf_skb_load_bytes(ctx, 9, id, sizeof(id)))
		return SK_PASS;
	for (int i = 0; i < 8; i++)
		key = key << 8 | id[i];
	bpf_sk_select_reuseport(ctx, &ngx_quic_sockmap, &key, 0);
	return SK_PASS;
}
""",
    "reuseport_kern.c": """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sk_info SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, 176);
} aes_key SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 255);
	__type(key, __u64);
	__type(value, __u32);
} worker_id_map SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 255);
	__type(key, __u32);
	__type(value, __u32);
} workers SEC(".maps");
SEC("sk_reuseport")
int by_length_and_hash(struct sk_reuseport_md *ctx)
{
	__u8 start[26], port[2], id[8] = {0x32, 0x43, 0xf6, 0xa8, 0x88, 0x5a, 0x30, 0x8d}; /* "decrypted" */
	__u32 zero = 0, slot, *worker = bpf_map_lookup_elem(&worker_id_map, id);
	__u64 *count = bpf_map_lookup_elem(&sk_info, &zero);

	if (!count || !*count || ctx->len < 30 || bpf_skb_load_bytes(ctx, 0, port, sizeof(port)) || port[0] < 4)
		return SK_DROP;
	if (bpf_skb_load_bytes(ctx, 8, start, sizeof(start)))
		return SK_DROP;
	if (worker && (start[0] & 0x80 ? start[5] == 17 && start[7] == 0x39 : start[2] == 0x39))
		slot = *worker;
	else if (start[0] == 0xc0 && start[5] >= 8 && start[5] <= 20)
		slot = ctx->hash % *count;
	else
		return SK_DROP;
	return bpf_sk_select_reuseport(ctx, &workers, &slot, 0) ? SK_DROP : SK_PASS;
}
""",
}
"""Programs of our own that take the options of those in the field: their texts are not here."""


def test_a_variant_s_program_takes_words_for_the_compiler_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.bpf.c").write_text("")
    done = run(f"reference={tmp_path / 'mine.bpf.c'}", "entry=f")
    assert done.returncode == 4
    assert "a program in a variant's place takes define= alone" in done.stderr


@pytest.mark.parametrize("command", commands("docs/in-the-field.md"))
def test_commands_for_programs_in_the_field_run(tmp_path: Path, command: str) -> None:
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(text)
        command = command.replace(name, str(tmp_path / name))
    restarts = command.startswith("python -m harness")
    words = [sys.executable, *shlex.split(command)[1:]] if restarts else as_on_this_kernel(command)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    by_place = restarts and "connection_word" in command
    at_random = restarts and "any_of_eight" in command
    assert done.returncode == int(by_place or at_random), done.stdout + done.stderr
    assert "began at" in done.stdout if restarts else " passed" in done.stdout
    if at_random:
        assert "went astray" in done.stdout.split("program: ", 1)[1]
    if by_place:
        assert "program: " in done.stdout
        assert "first when A runs" not in done.stdout.split("program: ", 1)[1], "all is well until a member has left"

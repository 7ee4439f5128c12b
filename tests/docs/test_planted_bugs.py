# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A bug in each kind of program is named by `python -m harness restart` on the running kernel (needs root).

Each program finds the number of a client's member in the packet. It is right, or reads at a wrong offset, or reads less
of the connection ID than the server writes, or goes by the order of the members that are there, which is another once a
member has left: a filter's place in the group always is that, and a map's slots may be counted so.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernel.preflight import missing_requirement

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";

#define MEMBERS 8 /* of both generations */

/* PAYLOAD is where the payload begins in what the program sees; the number stands so many bytes into the payload. */
static __always_inline int number_of(void *ctx, void *number, __u32 size)
{
	__u8 first = 0;

	if (bpf_skb_load_bytes(ctx, PAYLOAD, &first, 1) || first != 0x40)
		return 1;
	return bpf_skb_load_bytes(ctx, PAYLOAD + AT, number, size) != 0;
}
"""

FROM_A_SOCKARRAY = """
#define PAYLOAD 8
HEAD
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} members SEC(".maps");

SEC("sk_reuseport")
int by_slot(struct sk_reuseport_md *ctx)
{
	__u8 number = 0;
	__u32 slot;

	if (number_of(ctx, &number, sizeof(number)))
		return SK_PASS;
	slot = number;
	if (!BY_ORDER) {
		bpf_sk_select_reuseport(ctx, &members, &slot, 0);
		return SK_PASS;
	}
	for (int i = 0; i < MEMBERS; i++) {
		slot = i;
		if (!bpf_sk_select_reuseport(ctx, &members, &slot, 0) && !number--)
			break;
	}
	return SK_PASS;
}
"""

FROM_THE_LOADERS_MAP = """
#define PAYLOAD 8
HEAD
extern int listeners;

SEC("sk_reuseport")
int by_id(struct sk_reuseport_md *ctx)
{
	__u64 key = 0, number;
	__u8 id[8] = {};

	if (number_of(ctx, id, sizeof(id)))
		return SK_PASS;
	for (int i = 0; i < 8; i++)
		key = key << 8 | id[i];
	if (!BY_ORDER) {
		bpf_sk_select_reuseport(ctx, &listeners, &key, 0);
		return SK_PASS;
	}
	number = key;
	for (int i = 0; i < MEMBERS; i++) {
		key = i;
		if (!bpf_sk_select_reuseport(ctx, &listeners, &key, 0) && !number--)
			break;
	}
	return SK_PASS;
}
"""

FROM_A_MAP_OF_MAPS = """
#define PAYLOAD 8
HEAD
struct worker {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 64);
	__type(key, __u32);
	__array(values, struct worker);
} workers SEC(".maps");

SEC("sk_reuseport")
int by_tunnel(struct sk_reuseport_md *ctx)
{
	__u32 key, only = 0;
	__u8 number = 0;
	void *worker;

	if (number_of(ctx, &number, sizeof(number)))
		return SK_PASS;
	key = number;
	if (!BY_ORDER) {
		worker = bpf_map_lookup_elem(&workers, &key);
		if (worker)
			bpf_sk_select_reuseport(ctx, worker, &only, 0);
		return SK_PASS;
	}
	for (int i = 0; i < MEMBERS; i++) {
		key = i;
		worker = bpf_map_lookup_elem(&workers, &key);
		if (worker && !bpf_sk_select_reuseport(ctx, worker, &only, 0) && !number--)
			break;
	}
	return SK_PASS;
}
"""

OF_A_FILTER = """
#define PAYLOAD 0
HEAD
SEC("socket")
int by_place(struct __sk_buff *skb)
{
	__u8 number = 0;

	return number_of(skb, &number, sizeof(number)) ? -1 : number;
}
"""

CLASSIC = "ldb [0]\njne #0x40, hash\nldb [AT]\nret a\nhash: ret #0xffffffff\n"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of program: its text, what it needs besides, and the payload of a client that a member knows."""

    text: str
    options: tuple[str, ...] = ()
    known: str = "40SS000000000000000000000000"
    long: str = "40SSSS0000000000000000000000"
    """A payload whose number has more bytes than the program reads, or an ID that has fewer."""
    wrong_since: str = "A runs"
    """When a bug shows. What is not found in the map is left to the hash, which is right until the group grows."""
    by_place: bool = False
    suffix: str = ".bpf.c"


KINDS = {
    "sockarray": Kind(text=FROM_A_SOCKARRAY),
    "extern-sockhash": Kind(
        text=FROM_THE_LOADERS_MAP,
        options=("map=listeners=sockhash,key=8,value=8,max=64",),
        known="40SSSSSSSSSSSSSSSS0000000000",
        long="40SSSSSSSS",
        wrong_since="B has joined",
    ),
    "map-of-maps": Kind(text=FROM_A_MAP_OF_MAPS),
    "socket-filter": Kind(text=OF_A_FILTER, by_place=True),
    "classic": Kind(text=CLASSIC, by_place=True, suffix=".bpf"),
}

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_with_maps = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=name) for name, kind in KINDS.items() if not kind.by_place]
)


@pytest.fixture(autouse=True)
def _able() -> None:
    if reason := missing_requirement():
        pytest.skip(reason)


def restart(directory: Path, kind: Kind, known: str, *, at: int = 1, by_order: bool = False) -> tuple[int, str]:
    """Carry a restart out with the kind's program; return the exit status, and the lines on what went wrong."""
    program = directory / f"mine{kind.suffix}"
    text = kind.text.replace("HEAD", HEAD)
    program.write_text(text.replace("AT", str(at)).replace("BY_ORDER", str(int(by_order))))
    given = [word for option in kind.options for word in ("--program-option", option)]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "restart", "--strategy", "hash", "--program", str(program), *given,
         "--known", known],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("program: ") or " was at place " in line]
    return done.returncode, "\n".join(lines)


@each_kind
def test_a_right_program_is_found_right_until_its_places_are_given_to_others(tmp_path: Path, kind: Kind) -> None:
    """What counts a member's place in the group is wrong since one left; what looks its slot up is right to the end."""
    status, said = restart(tmp_path, kind, kind.known)
    assert ("went astray" in said, status) == ((True, 1) if kind.by_place else (False, 0)), said
    assert "first when A runs" not in said
    if kind.by_place:
        assert "B3 was at place 7 of the group and is at place 0 since A0 left" in said
        assert re.search(r"packets of clients of B\d went astray, to .*; first when A\d has left", said)


@each_kind
def test_a_wrong_offset_is_named(tmp_path: Path, kind: Kind) -> None:
    status, said = restart(tmp_path, kind, kind.known, at=2)
    assert status == 1
    assert re.search(rf"packets of clients of A[123] went astray, to .*; first when {kind.wrong_since}", said), said


@each_kind
def test_a_part_of_a_connection_id_is_named(tmp_path: Path, kind: Kind) -> None:
    status, said = restart(tmp_path, kind, kind.long)
    assert status == 1
    assert re.search(rf"packets of clients of A[123] went astray, to .*; first when {kind.wrong_since}", said), said


@each_with_maps
def test_slots_that_are_counted_in_order_are_named_once_a_member_has_left(tmp_path: Path, kind: Kind) -> None:
    """The number is a turn among the slots that are taken: right as long as all of them are."""
    status, said = restart(tmp_path, kind, kind.known, by_order=True)
    assert status == 1
    assert re.search(r"packets of clients of (A[123]|B\d) went astray, to .*; first when A0 has left", said), said
    assert not re.search(r"first when (A runs|B has joined)", said), said

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Files and options of --program: what is found in them, and what is refused before any kernel boots."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from harness.loader.compiler import compile_program
from harness.loader.object_file import ObjectFileError, read_object
from harness.loader.own_object import demand_source, read_own
from harness.loader.program_options import MapSpec, OptionError, ProgramOptions, read_options
from harness.loader.verifier_log import MOST_LINES, cut_log

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests/examples"

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
"""
LICENSE = 'char _license[] SEC("license") = "GPL";\n'


def compiled(directory: Path, text: str, *words: str) -> Path:
    source = directory / "mine.bpf.c"
    source.write_text(text)
    return compile_program(source, defines=words, includes=(directory,), cache_directory=directory)


def example(name: str, tmp_path: Path, *words: str) -> Path:
    return compile_program(EXAMPLES / name, defines=words, includes=(EXAMPLES,), cache_directory=tmp_path)


def test_options_are_read() -> None:
    options = read_options([
        "entry=by_hash", 'define=NAME="x"', "-DDEBUG", "map=socks=sockhash,key=8,value=8,max=16",
        "inner=outer=sockarray,max=1,flags=rdonly_prog+wronly", "constant=mask=0x7", "attach=select_or_migrate",
        "type=socket_filter",
    ])  # fmt: skip
    assert options == ProgramOptions(
        entry="by_hash",
        kind="socket_filter",
        attach_type=40,  # include/uapi/linux/bpf.h
        defines=('NAME="x"', "DEBUG"),
        maps={"socks": MapSpec(kind="sockhash", key_size=8, value_size=8, max_entries=16)},
        inner={"outer": MapSpec(kind="sockarray", max_entries=1, flags=0x80 | 0x10)},
        constants={"mask": 7},
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["entries=x"], "'entries=x' is no option of a program"),
        (["entry="], "'entry=' is no option of a program"),
        (["entry=a", "entry=b"], "two entries, a and b"),
        (["map=socks=sockets"], "'sockets' is none of hash, array"),
        (["map=socks=sockmap,key=8"], "the key of a sockmap has 4 bytes, not 8"),
        (["map=socks=sockmap,max=none"], "max=none: a whole number above 0"),
        (["map=socks=sockmap,size=4"], "'size' is none of key, value, max"),
        (["map=socks=sockmap,flags=readonly"], "'readonly' is none of no_prealloc"),
        (["map=a=sockmap", "map=a=sockmap"], "the map a is there twice"),
        (["map=1=sockmap"], "'1' is no name of a map"),
        (["constant=mask=many"], "'many' is no whole number"),
        (["type=xdp"], "'xdp' is none of sk_reuseport, socket_filter"),
        (["attach=everywhere"], "'everywhere' is none of select"),
    ],
)  # fmt: skip
def test_words_that_are_no_options_are_named(words: list[str], says: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_options(words)
    assert says in str(refused.value)


def test_the_loader_s_map_is_found_in_the_instructions(tmp_path: Path) -> None:
    found = read_object(example("extern_map.bpf.c", tmp_path))
    assert found.undefined == ("listeners",)
    (program,) = found.programs
    ((offset, name),) = [(use.offset, use.name) for use in program.uses]
    assert name == "listeners"
    assert program.instructions[offset] == 0x18, "BPF_LD | BPF_IMM | BPF_DW: the instruction that takes a map"


def test_what_libbpf_resolves_is_no_map_of_the_loader_s(tmp_path: Path) -> None:
    code = f"""{HEAD}{LICENSE}
extern int LINUX_KERNEL_VERSION __kconfig;
extern const void init_net __ksym;
SEC("sk_reuseport")
int f(struct sk_reuseport_md *ctx) {{ return LINUX_KERNEL_VERSION > 0x50a00 && &init_net; }}
"""
    assert read_object(compiled(tmp_path, code)).undefined == ()


def test_legacy_definitions_are_translated(tmp_path: Path) -> None:
    found = read_own(example("legacy_map.bpf.c", tmp_path), ProgramOptions())
    assert found.maps == {"listeners": MapSpec(kind="sockarray", key_size=4, value_size=8, max_entries=8)}


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("extern_map.bpf.c", [], "uses listeners, which it does not define: say what its loader makes"),
        ("extern_map.bpf.c", ["map=socks=sockmap"], "map=socks: "),
        ("two_programs.bpf.c", [], "more than one program: any_of_eight (socket), left_to_the_hash (sk_reuseport)"),
        ("two_programs.bpf.c", ["entry=neither"], "entry=neither: "),
        ("one_slot_each.bpf.c", ["constant=mark=1"], "constant=mark: .rodata of"),
        ("one_slot_each.bpf.c", ["constant=mask=4294967296"], "4294967296 does not fit into 4 bytes"),
    ],
)
def test_what_an_example_lacks_is_said_with_the_way_out(
    tmp_path: Path, source: str, options: list[str], says: str
) -> None:
    with pytest.raises(ObjectFileError) as refused:
        read_own(example(source, tmp_path), read_options(options))
    assert says in str(refused.value)


SELECTS = """
SEC("sk_reuseport")
int f(struct sk_reuseport_md *ctx)
{
    int k = ctx->len;
    if (k > 1)
        k = OTHER(k);
    bpf_sk_select_reuseport(ctx, &socks, &k, 0);
    return 1;
}
"""

PLANTED = {
    "is a program of another kind (xdp)": HEAD + LICENSE + 'SEC("xdp") int f(void *ctx) { return 1; }',
    "holds no program": HEAD + LICENSE,
    "cannot have the call of": f"""{HEAD}{LICENSE}
extern int socks;
static __attribute__((noinline)) unsigned OTHER(unsigned a) {{ return a / 3; }}
{SELECTS}""",
    "cannot have the kernel's LINUX_KERNEL_VERSION": f"""{HEAD}{LICENSE}
extern int socks;
extern int LINUX_KERNEL_VERSION __kconfig;
#define OTHER(a) LINUX_KERNEL_VERSION
{SELECTS}""",
    'has maps in SEC(".maps") and socks besides': f"""{HEAD}{LICENSE}
extern int socks;
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); }}
numbers SEC(".maps");
#define OTHER(a) (bpf_map_lookup_elem(&numbers, &a) ? 1 : 0)
{SELECTS}""",
    "has more than struct bpf_map_def": f"""{HEAD}{LICENSE}
struct {{ int n[9]; }} typedef def;
def SEC("maps") socks = {{{{ 20, 4, 8, 1, 0, 0, 2 }}}};
#define OTHER(a) a
{SELECTS}""",
    "has type 77, which cannot be translated": f"""{HEAD}{LICENSE}
struct {{ int n[5]; }} typedef def;
def SEC("maps") socks = {{{{ 77, 4, 8, 1, 0 }}}};
#define OTHER(a) a
{SELECTS}""",
}


@pytest.mark.parametrize("says", PLANTED)
def test_objects_that_cannot_be_loaded_are_refused_by_name(tmp_path: Path, says: str) -> None:
    options = read_options(["map=socks=sockarray"] if says.startswith("cannot have") else [])
    with pytest.raises(ObjectFileError) as refused:
        read_own(compiled(tmp_path, PLANTED[says]), options)
    assert says in str(refused.value)


def test_an_object_of_this_machine_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "native.c").write_text("int f(void) { return 1; }")
    subprocess.run(["clang", "-c", "native.c", "-o", "native.o"], cwd=tmp_path, check=True)
    with pytest.raises(ObjectFileError, match=r"is for the machine .*, not for BPF: compile it with clang -target bpf"):
        read_object(tmp_path / "native.o")


def test_an_object_of_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("int f(void) { return 1; }")
    target = "bpfeb" if sys.byteorder == "little" else "bpfel"
    subprocess.run(["clang", "-target", target, "-c", "other.c", "-o", "other.o"], cwd=tmp_path, check=True)
    with pytest.raises(ObjectFileError, match="other byte order"):
        read_object(tmp_path / "other.o")


def test_an_object_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = example("legacy_map.bpf.c", tmp_path).read_bytes()
    cut = tmp_path / "cut.bpf.o"
    for length in range(0, len(whole) - 1, 41):
        cut.write_bytes(whole[:length])
        with pytest.raises(ObjectFileError):
            read_own(cut, ProgramOptions())


def test_an_object_with_damaged_bytes_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    whole = example("legacy_map.bpf.c", tmp_path).read_bytes()
    damaged = tmp_path / "damaged.bpf.o"
    for offset in range(0, len(whole), 23):
        damaged.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
        with contextlib.suppress(ObjectFileError):
            read_own(damaged, ProgramOptions())


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.bpf.o"
    with large.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ObjectFileError, match="has 65 MiB"):
        read_object(large)


def test_a_program_with_more_instructions_than_any_kernel_takes_is_refused(tmp_path: Path) -> None:
    code = f"{HEAD}{LICENSE}"
    code += 'SEC("sk_reuseport") int f(void *ctx) { asm volatile (".rept 1000000; r1 = 1; .endr"); return 1; }'
    with pytest.raises(ObjectFileError, match=r"f has 100000\d instructions; kernels take 1,000,000 at most"):
        read_own(compiled(tmp_path, code), ProgramOptions())


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ObjectFileError, match=r"neither C \(.c\), nor a compiled object \(.o\), nor the text"):
        read_own(tmp_path / "picture.png", ProgramOptions())


def test_a_classic_program_takes_no_options(tmp_path: Path) -> None:
    (tmp_path / "all.ddd").write_text("1\n6 0 0 0\n")
    with pytest.raises(ObjectFileError, match="is a classic program: entry= is for compiled ones"):
        read_own(tmp_path / "all.ddd", read_options(["entry=f"]))


def test_a_text_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long.bpf").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(ObjectFileError, match=r"long.bpf has 1,048,577 bytes; no text of a classic program is that"):
        read_own(tmp_path / "long.bpf", ProgramOptions())


def test_a_word_for_the_compiler_is_refused_where_the_object_is_compiled_already(tmp_path: Path) -> None:
    options = read_options(["define=SLOTS=4"])
    demand_source(tmp_path / "mine.bpf.c", options)
    with pytest.raises(ObjectFileError, match=r"define=SLOTS=4: mine.o is compiled already: give its C"):
        demand_source(tmp_path / "mine.o", options)


def test_a_long_log_is_cut_to_its_end_and_the_line_of_source() -> None:
    log = [
        "libbpf: prog 'f': BPF program load failed: Permission denied",
        "libbpf: prog 'f': -- BEGIN PROG LOAD LOG --",
    ]
    log += ["; return ctx->sk;"] + [f"{number}: (b7) r0 = 0" for number in range(100)]
    log += ["R0 !read_ok", "processed 101 insns (limit 1000000) max_states_per_insn 0", "-- END PROG LOAD LOG --"]
    lines = cut_log("\n".join(log)).splitlines()
    assert lines[:2] == ["[78 lines of the verifier's log are left out]", "; return ctx->sk;"]
    assert lines[-1] == "R0 !read_ok"
    assert len(lines) == MOST_LINES + 2

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs are compiled once for each content; what clang has to say is shown whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.loader import compiler
from harness.loader.compiler import CompileError, compile_program, compile_variants
from harness.model.abi import CID_LENGTH, CONTEXT_SIZE, MOST_NODES, NOBODY, TABLE_SIZE, Result, pack_command
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '#include "select.h"\nSEC("sk_reuseport") int f(void *ctx) { return ctx ? SK_PASS : SK_DROP; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "good.bpf.c"
    path.write_text(GOOD)
    return path


def test_same_content_is_compiled_once(source: Path, tmp_path: Path) -> None:
    first = compile_program(source, cache_directory=tmp_path / "cache")
    stamp = first.stat().st_mtime_ns
    assert first.read_bytes().startswith(b"\x7fELF")
    again = compile_program(source, cache_directory=tmp_path / "cache")
    assert (again, again.stat().st_mtime_ns) == (first, stamp)


@pytest.mark.parametrize("left", [0, 100, None], ids=["empty", "cut short", "gone"])
def test_object_that_is_damaged_is_compiled_again(source: Path, tmp_path: Path, left: int | None) -> None:
    first = compile_program(source, cache_directory=tmp_path / "cache")
    content = first.read_bytes()
    if left is None:
        first.unlink()
    else:
        first.write_bytes(content[:left])
    assert compile_program(source, cache_directory=tmp_path / "cache") == first
    assert first.read_bytes() == content


def test_changed_content_is_another_object(source: Path, tmp_path: Path) -> None:
    first = compile_program(source, cache_directory=tmp_path / "cache")
    source.write_text(GOOD.replace("SK_PASS", "SK_DROP + 2"))
    assert compile_program(source, cache_directory=tmp_path / "cache") != first


def test_error_of_the_compiler_is_shown_whole_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    source.write_text(GOOD.replace("SK_PASS", "NO_SUCH_VERDICT"))
    with pytest.raises(CompileError, match=r"(?s)good\.bpf\.c.*NO_SUCH_VERDICT.*1 error"):
        compile_program(source, cache_directory=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_compiler_names_the_remedy(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler._clang_version.cache_clear()
    with pytest.raises(CompileError, match=r"\./bootstrap"):
        compile_program(source, cache_directory=tmp_path / "cache")
    monkeypatch.undo()
    compiler._clang_version.cache_clear()


def test_cache_that_cannot_be_written_names_the_way_out(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    with pytest.raises(CompileError, match="XDG_CACHE_HOME"):
        compile_program(source, cache_directory=tmp_path / "cache")


@pytest.mark.parametrize("header", ["answer.h", "of/another/directory.h"])
def test_header_that_changed_makes_another_object(source: Path, tmp_path: Path, header: str) -> None:
    path = tmp_path / header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#define ANSWER SK_PASS\n")
    source.write_text(f'#include "{header}"\n' + GOOD.replace("SK_PASS", "ANSWER"))
    first = compile_program(source, includes=(tmp_path,), cache_directory=tmp_path / "cache")
    path.write_text("#define ANSWER SK_DROP\n")
    assert compile_program(source, includes=(tmp_path,), cache_directory=tmp_path / "cache") != first


@pytest.mark.parametrize("includes", [True, False])
def test_source_that_is_not_there_is_named(tmp_path: Path, includes: bool) -> None:
    with pytest.raises(CompileError, match=r"cannot read .*absent\.bpf\.c"):
        compile_program(
            tmp_path / "absent.bpf.c",
            includes=(tmp_path,) if includes else (),
            cache_directory=tmp_path / "cache",
        )


def test_every_variant_compiles(tmp_path: Path) -> None:
    compiled = compile_variants(cache_directory=tmp_path)
    assert compiled.keys() == {variant.name for variant in VARIANTS.values() if variant.file is not None}


def test_python_side_has_the_numbers_of_the_headers(tmp_path: Path) -> None:
    """harness/model/abi.py and bpf/ agree: clang itself compares them."""
    source = tmp_path / "numbers.bpf.c"
    source.write_text(
        '#define DIRECT\n#include "quic.h"\n#include "rendezvous.h"\n#include "table.h"\n'
        f'_Static_assert(sizeof(struct data_check) == {CONTEXT_SIZE}, "record");\n'
        f'_Static_assert(sizeof(struct cmd) == {len(pack_command(0))}, "command");\n'
        f'_Static_assert(TABLE_SIZE == {TABLE_SIZE} && NOBODY == {NOBODY}u, "table");\n'
        f'_Static_assert(MOST_NODES == {MOST_NODES}, "nodes");\n'
        f'_Static_assert(QUIC_CID_LENGTH == {CID_LENGTH}, "connection ID");\n'
        f'_Static_assert(NR_RESULTS == {len(Result)}, "results");\n'
        + "".join(f'_Static_assert({result.name} == {result:d}, "{result.name}");\n' for result in Result)
    )
    compile_program(source, cache_directory=tmp_path / "cache")

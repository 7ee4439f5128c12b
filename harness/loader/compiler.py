# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile the programs under bpf/ with clang, once for each content."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from harness.model.variants import VARIANTS

SOURCES = Path(__file__).resolve().parents[2] / "bpf"

FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v2", "-Wall", "-Wextra", "-Werror")
"""mcpu v2: the 5.3 verifier knows no 32-bit jumps of v3 by default, and one object serves every kernel."""


class CompileError(Exception):
    """Report what clang had to say of a program, whole."""


def compile_variants(*, cache_directory: Path | None = None) -> dict[str, Path]:
    """Compile every variant of the table; return the objects by the variant's name, classic BPF left out."""
    return {
        variant.name: compile_program(SOURCES / variant.file, defines=variant.defines, cache_directory=cache_directory)
        for variant in VARIANTS.values()
        if variant.file is not None
    }


def compile_program(
    source: Path,
    *,
    defines: tuple[str, ...] = (),
    includes: tuple[Path, ...] = (),
    cache_directory: Path | None = None,
) -> Path:
    """Return the object of a source, compiled unless the same content with the same clang was before.

    `defines` go to the compiler as -D. `includes` are where a program that is not of this project has its headers;
    its warnings are its own affair. One that is damaged in the cache is compiled again. Raises CompileError with
    clang's whole output, naming the package if clang is missing, or saying why the cache cannot be written.
    """
    directory = cache_directory or user_cache_path("reuseport-harness") / "bpf"
    name = source.name.removesuffix(".bpf.c")
    target = directory / f"{name}-{_content_key(source, defines, includes)}.bpf.o"
    digest = target.with_name(f"{target.name}.sha256")
    if _is_whole(target, digest):
        return target
    # To a pipe: on a full disk clang says that it has crashed.
    command = [*_command(defines, includes), str(source), "-o", "-"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if run.returncode:
        raise CompileError(f"clang refuses {source.name}:\n{run.stderr.decode(errors='replace')}".rstrip())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(target, run.stdout)
        _write(digest, hashlib.sha256(run.stdout).hexdigest().encode())
    except OSError as error:
        raise CompileError(f"cannot write compiled programs: {error} (XDG_CACHE_HOME moves the cache)") from error
    return target


def _is_whole(target: Path, digest: Path) -> bool:
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == digest.read_text()
    except (OSError, ValueError):
        return False


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all: another run may be reading it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            Path(file.name).chmod(0o644)
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _command(defines: tuple[str, ...], includes: tuple[Path, ...]) -> list[str]:
    # Debian and Ubuntu keep asm/ in a directory of the architecture, which -target bpf does not search.
    multiarch = Path("/usr/include") / f"{os.uname().machine}-linux-gnu"
    foreign = [f"-I{path}" for path in includes]
    if includes:
        # The machine's name lets <stdlib.h> and its like find their parts, which -target bpf does not define.
        foreign += ["-Wno-error", f"-D__{os.uname().machine}__"]
    return ["clang", *FLAGS, *foreign, f"-I{SOURCES}", f"-I{multiarch}", *(f"-D{define}" for define in defines), "-c"]


def _content_key(source: Path, defines: tuple[str, ...], includes: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for part in (*_command(defines, includes), _clang_version()):
        digest.update(part.encode())
    headers = (each for directory in (SOURCES, *includes) for each in sorted(directory.glob("*.h")))
    for path in (source, *headers):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _clang_version() -> str:
    try:
        return subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompileError("clang is not installed: run ./bootstrap (Debian: clang)") from error

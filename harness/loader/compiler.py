# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile the programs under bpf/ with clang, once for each content."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from harness.interface.atomic import write_bytes, write_text
from harness.model.variants import VARIANTS

_INSTALLED = Path(__file__).resolve().parents[1] / "bpf"

SOURCES = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "bpf"
"""The programs' sources: in the package where it was installed as a wheel, beside it in a checkout."""

FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v2", "-Wall", "-Wextra", "-Werror")
"""mcpu v2: one object is for every kernel, and the verifier of 5.3 does not know v3 by default."""


class CompileError(Exception):
    """A program cannot be compiled; the message is clang's whole output, or what is missing and how to get it."""


def compile_variants(*, cache_directory: Path | None = None) -> dict[str, Path]:
    """Compile every variant; return the objects by the variant's name. Classic BPF has none. Raises CompileError."""
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
    """Return the object of a source; it is compiled unless the cache has one of the same content and clang.

    `defines` are given to clang with -D. `includes` are the directories of headers of a program from outside this
    project; its warnings are no errors. Raises CompileError.
    """
    directory = cache_directory or user_cache_path("reuseport-harness") / "bpf"
    name = source.name.removesuffix(".c").removesuffix(".bpf")
    # In a directory for the content: messages name the object, and users know their program by its file's name.
    target = directory / _content_key(source, defines, includes) / f"{name}.bpf.o"
    digest = target.with_name(f"{target.name}.sha256")
    if _is_whole(target, digest):
        return target
    # To a pipe: on a full disk clang says that it has crashed.
    command = [*_command(defines, includes), str(source), "-o", "-"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if run.returncode:
        raise CompileError(f"clang cannot compile {source.name}:\n{run.stderr.decode(errors='replace')}".rstrip())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, run.stdout)
        write_text(digest, hashlib.sha256(run.stdout).hexdigest())
    except OSError as error:
        raise CompileError(f"cannot write compiled programs: {error} (XDG_CACHE_HOME moves the cache)") from error
    return target


def _is_whole(target: Path, digest: Path) -> bool:
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == digest.read_text()
    except (OSError, ValueError):
        return False


def _command(defines: tuple[str, ...], includes: tuple[Path, ...]) -> list[str]:
    # Debian and Ubuntu have asm/ in a directory of the architecture, which -target bpf does not search.
    multiarch = Path("/usr/include") / f"{os.uname().machine}-linux-gnu"
    foreign = [f"-I{path}" for path in includes]
    if includes:
        # <stdlib.h> and others look for the machine's name, which -target bpf does not define.
        foreign += ["-Wno-error", f"-D__{os.uname().machine}__"]
    return ["clang", *FLAGS, *foreign, f"-I{SOURCES}", f"-I{multiarch}", *(f"-D{define}" for define in defines), "-c"]


def _content_key(source: Path, defines: tuple[str, ...], includes: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for part in (*_command(defines, includes), _clang_version()):
        digest.update(part.encode())
    # Our own headers all lie in one directory; only clang knows which ones a program from elsewhere includes.
    headers = _dependencies(source, defines, includes) if includes else sorted(SOURCES.glob("*.h"))
    try:
        for path in (source, *headers):
            digest.update(path.read_bytes())
    except OSError as error:
        raise CompileError(f"cannot read {error.filename}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def _dependencies(source: Path, defines: tuple[str, ...], includes: tuple[Path, ...]) -> list[Path]:
    """Return every file that a source includes, as clang finds them; none if clang cannot, which compiling reports."""
    command = [*_command(defines, includes), "-M", str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    # A rule for make: "source.o: source.c header.h \\", where a space in a name is written as "\\ ".
    names = re.findall(r"(?:\\.|[^\s\\])+", run.stdout.partition(":")[2])
    return [Path(re.sub(r"\\(.)", r"\1", name)) for name in names]


@cache
def _clang_version() -> str:
    try:
        return subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompileError("clang is not installed: install the package clang, or run ./bootstrap") from error

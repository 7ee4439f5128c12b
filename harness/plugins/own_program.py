# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Test a user's program: `--program` for one of their own, `--kernel-tree` for a kernel tree's."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.loader.bindings import BpfError
from harness.loader.program_options import HELP, OptionError, ProgramOptions, read_options
from harness.loader.verifier_log import cut_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.group.own_program import OwnProgram

OWN = "own"
"""The name that a user's program goes by among the compiled objects."""

SELFTESTS = Path("tools/testing/selftests/bpf")
_PROGRAM = Path("progs/test_select_reuseport_kern.c")
_PACKAGE = Path(__file__).resolve().parents[1]
_OUR_CASES = (_PACKAGE / "conformance", _PACKAGE.parent / "cases")
"""The directory of the project's own cases, installed and in a checkout."""
_REFUSAL = pytest.StashKey[str]()
"""What the running kernel said of the program when it refused it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("reuseport")
    group.addoption(
        "--program",
        metavar="[NAME=]FILE",
        help="run the cases for any program with this one: C (.c), a compiled object (.o), or a classic program's text "
        "(tcpdump -ddd, bpf_asm); with NAME=, run the cases of that variant (python -m harness programs) with this "
        "program in its place",
    )
    group.addoption(
        "--program-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"what --program needs besides; may be given more than once: {HELP}",
    )
    group.addoption(
        "--kernel-tree",
        type=Path,
        metavar="DIR",
        help="compile the tree's own test_select_reuseport_kern.c and run the reference cases with it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an option that names no program, before anything else is done."""
    if hasattr(config, "workerinput"):
        return
    name, path = _given(config)
    if name is None or path is None:
        if config.option.program_option:
            raise pytest.UsageError("--program-option is for a program of your own: add --program FILE")
        return
    from harness.model.variants import VARIANTS  # noqa: PLC0415

    if name != OWN and name not in VARIANTS:
        raise pytest.UsageError(f"--program: there is no variant {name}; python -m harness programs lists them")
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib's raises for a name that is too long
        raise pytest.UsageError(
            f"there is no file {str(path)!r}" + (": is that a kernel tree?" if config.option.kernel_tree else "")
        )
    if name != OWN and path.suffix not in {".c", ".o"}:
        raise pytest.UsageError(f"--program: {path.name} is neither C (.c) nor a compiled object (.o)")
    options = _options(config)
    if name != OWN and replace(options, defines=()) != ProgramOptions():
        raise pytest.UsageError("--program-option: a program in a variant's place takes define= alone")
    if path.suffix != ".c":
        _check(path, options, own=name == OWN, given=path)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the cases for a user's program where none is given."""
    ours = collection_path.name == "test_own_program.py" and collection_path.parent in _OUR_CASES
    return True if ours and _given(config)[0] != OWN else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Name cases after their file also where it lies outside the project: pytest would leave the name out there."""
    if module_path.is_relative_to(parent.config.rootpath):
        return None
    return pytest.Module.from_parent(parent, path=module_path, nodeid=module_path.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the cases that the program is for."""
    name, _ = _given(config)
    if name is None:
        return
    kept = [item for item in items if _is_for(item, name)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def replacements(config: pytest.Config) -> dict[str, Path]:
    """Compile what the options name; return the objects by the name of the program that they replace.

    Raises CompileError.
    """
    name, path = _given(config)
    if name is None or path is None:
        return {}
    if path.suffix != ".c":
        return {name: path.resolve()}
    from harness.loader.compiler import compile_program  # noqa: PLC0415

    options = _options(config)
    includes = (path.parent.parent, path.parent)
    made = compile_program(path.resolve(), defines=options.defines, includes=includes)
    _check(made, options, own=name == OWN, given=path)
    return {name: made}


@pytest.fixture
def own_program(wire: object, objects: dict[str, Path], pytestconfig: pytest.Config) -> Iterator[OwnProgram]:
    """Return the program of --program, loaded for the case."""
    from harness.group.own_program import OwnProgram  # noqa: PLC0415

    if OWN not in objects:
        raise pytest.UsageError("these cases are for a program of your own: add --program FILE")
    if refusal := pytestconfig.stash.get(_REFUSAL, ""):
        pytest.fail(f"{refusal.splitlines()[0]} (the first failed case shows the log)", pytrace=False)
    try:
        made = OwnProgram(objects[OWN], _options(pytestconfig))
    except BpfError as error:
        refusal = f"this kernel ({platform.release()}) refuses the program: {error.strerror}"
    if refusal:
        pytestconfig.stash[_REFUSAL] = refusal
        pytest.fail(cut_log(refusal), pytrace=False)
    yield made
    made.close()


def _options(config: pytest.Config) -> ProgramOptions:
    try:
        return read_options(config.option.program_option)
    except OptionError as error:
        raise pytest.UsageError(f"--program-option {error}") from error


def _check(path: Path, options: ProgramOptions, *, own: bool, given: Path) -> None:
    """Raise UsageError for a file that no kernel loads, compiled of the one that was given if that is C.

    A variant's program is loaded as the harness's own are.
    """
    from harness.loader.object_file import ObjectFileError, read_object  # noqa: PLC0415
    from harness.loader.own_object import demand_source, read_own  # noqa: PLC0415

    try:
        demand_source(given, options)
        if own:
            read_own(path, options)
        else:
            read_object(path)
    except ObjectFileError as error:
        raise pytest.UsageError(f"--program: {error}") from error


def _given(config: pytest.Config) -> tuple[str | None, Path | None]:
    """Return which program is replaced and by what, both None without the options."""
    tree, program = config.getoption("--kernel-tree"), config.getoption("--program")
    if tree is not None and program is not None:
        raise pytest.UsageError("--program and --kernel-tree both name the program under test: give one of them")
    if tree is not None:
        return "reference", Path(tree).resolve() / SELFTESTS / _PROGRAM
    if program is None:
        return None, None
    name, found, path = program.partition("=")
    return (name, Path(path)) if found else (OWN, Path(program))


def _is_for(item: pytest.Item, name: str) -> bool:
    fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
    if name == OWN:
        return "own_program" in fixtures
    if "kept_group" not in fixtures or not isinstance(item, pytest.Function):
        return False
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return bool(params.get("variant", "reference") == name)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pytest plugin of a session that has collected all cases: it runs some of them in a fork for each mutant.

A fork has the mutant's programs compiled, and its functions' code put in the place of what was imported.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import sys
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from .inside import Told, compile_variants
from .serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_FIXTURES = (
    *("harness.group.bench", "harness.group.delivery", "harness.group.reuseport_group", "harness.group.own_program"),
    *("harness.loader.maps", "harness.loader.program", "harness.wire.veth", "harness.campaign.history"),
)
"""Modules that fixtures import: they are imported before the first fork, not in each."""


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Have the wire made that all cases use, then take jobs until there are no more."""
    for name in _OF_FIXTURES:
        importlib.import_module(name)
    compile_variants(["reference"])  # asks clang for its version, once
    cases = {item.nodeid: item for item in session.items}
    with_wire = [item for item in session.items if _makes_no_more_than_the_wire(item)]
    if with_wire:
        told = Told({"answer": os.devnull})
        session.config.pluginmanager.register(told)
        session.config.hook.pytest_runtest_protocol(item=with_wire[0], nextitem=session.items[-1])
        session.config.pluginmanager.unregister(told)
        if told.failed:
            raise pytest.UsageError(f"{with_wire[0].nodeid} fails without a mutant")
    serve(lambda job: _become(session, cases, job))
    return True


def _makes_no_more_than_the_wire(item: pytest.Item) -> bool:
    """Return whether a case has the wire made, and nothing else that is there longer than it runs."""
    fixtures = getattr(item, "fixturenames", ())
    return "bench" in fixtures and "kept_group" not in fixtures


def _become(session: pytest.Session, cases: dict[str, pytest.Item], job: dict[str, Any]) -> int:
    from harness.plugins.objects import compiled

    plan = json.loads(Path(job["plan"]).read_text())
    sys.dont_write_bytecode = True
    if job["file"].endswith(".py"):
        put_code(Path(job["file"]), job["original"])
    told = Told(plan)
    session.config.pluginmanager.register(told)
    items = [cases[name] for name in plan["cases"] if name in cases]
    if not items:
        return int(pytest.ExitCode.NO_TESTS_COLLECTED)
    left = set(plan["variants"])
    for item in items:
        if needed := left & set(plan["needed"][item.nodeid]):
            compiled(session.config).update(compile_variants(sorted(needed)))
            left -= needed
        # With another case to follow, what the session has is kept, the wire above all.
        after = session.items[-1] if item is not session.items[-1] else session.items[0]
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if told.failed:
            return int(pytest.ExitCode.TESTS_FAILED)
    return 0


def put_code(path: Path, original: str) -> None:
    """Give the functions of a module, if it is imported, the code of its file where that differs from `original`."""
    name = ".".join(path.with_suffix("").parts)
    if name not in sys.modules:
        return
    file = str(sys.modules[name].__file__)
    before, after = (_functions(text, file) for text in (original, path.read_text()))
    changed = {key: code for key, code in after.items() if key in before and before[key] != code}
    for function in [one for one in gc.get_objects() if type(one) is FunctionType]:
        code = function.__code__
        if code.co_filename == file and (new := changed.get((code.co_qualname, code.co_firstlineno))):
            function.__code__ = new
    for module in [module for name, module in sys.modules.items() if name.startswith("harness.model.")]:
        for value in vars(module).values():
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()


def _functions(text: str, file: str) -> dict[tuple[str, int], CodeType]:
    return {(code.co_qualname, code.co_firstlineno): code for code in _inside(compile(ast.parse(text), file, "exec"))}


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)

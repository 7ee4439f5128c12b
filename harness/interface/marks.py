# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the cases that carry a mark, and what they say, by reading their source: nothing is imported or run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "cases"


@dataclass(frozen=True, kw_only=True)
class FunctionText:
    """The text that reports show for a test function."""

    says: str  # the first paragraph of its docstring, on one line; empty without one
    promises: tuple[str, ...]  # the ids that its marks name
    bugs: tuple[str, ...]  # the bugs of the ledger that its marks name


def functions(file: Path) -> dict[str, FunctionText]:
    """Return the test functions of a file by the part of pytest's node id after "::" and before the parameters.

    Raises OSError, SyntaxError and ValueError for a file that is no Python.
    """
    return dict(_functions(ast.parse(file.read_bytes()).body, prefix=""))


def _functions(body: Sequence[ast.stmt], *, prefix: str) -> Iterator[tuple[str, FunctionText]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, prefix=f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef):
            promises, bugs = (tuple(_arguments(node, mark)) for mark in ("promise", "ledger"))
            yield f"{prefix}{node.name}", FunctionText(says=_says(node), promises=promises, bugs=bugs)


@dataclass(frozen=True, kw_only=True)
class MarkedCase:
    """A test function that carries a mark."""

    id: str  # cases/FILE::FUNCTION, the part of pytest's node id before the parameters
    says: str  # the first paragraph of its docstring, on one line


@cache
def marked(mark: Literal["promise", "ledger"], *, directory: Path = CASES) -> Mapping[str, Sequence[MarkedCase]]:
    """Return the cases in the order of the files, by each argument that their marks of that name have.

    Marks of single parameter sets count. Raises SyntaxError for a file that is no Python.
    """
    found: dict[str, list[MarkedCase]] = {}
    for path in sorted(directory.glob("test_*.py")):
        for name, text in functions(path).items():
            case = MarkedCase(id=f"cases/{path.name}::{name}", says=text.says)
            for argument in text.promises if mark == "promise" else text.bugs:
                found.setdefault(argument, []).append(case)
    return found


def _says(function: ast.FunctionDef) -> str:
    first, _, _ = (ast.get_docstring(function) or "").partition("\n\n")
    return " ".join(first.split())


def _arguments(function: ast.FunctionDef, mark: str) -> Iterable[str]:
    """Yield the arguments of a function's marks, each once."""
    calls = (
        node for decorator in function.decorator_list for node in ast.walk(decorator) if isinstance(node, ast.Call)
    )
    named = [call for call in calls if (getattr(call.func, "id", None) or getattr(call.func, "attr", None)) == mark]
    return dict.fromkeys(str(each.value) for call in named for each in call.args if isinstance(each, ast.Constant))

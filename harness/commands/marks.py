# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find the cases that carry a mark, and what they say, by reading their source: nothing is imported or run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "cases"


@dataclass(frozen=True, kw_only=True)
class MarkedCase:
    """A test function that carries a mark."""

    id: str  # cases/FILE::FUNCTION, the part of pytest's node id before the parameters
    says: str  # the first paragraph of its docstring, on one line


@cache
def marked(mark: str, *, directory: Path = CASES) -> Mapping[str, Sequence[MarkedCase]]:
    """Return the cases in the order of the files, by each argument that their marks of that name have.

    Marks of single parameter sets count. Raises SyntaxError for a file that is no Python.
    """
    found: dict[str, list[MarkedCase]] = {}
    for path in sorted(directory.glob("test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef):
                first, _, _ = (ast.get_docstring(function) or "").partition("\n\n")
                case = MarkedCase(id=f"cases/{path.name}::{function.name}", says=" ".join(first.split()))
                for name in _arguments(function, mark):
                    found.setdefault(name, []).append(case)
    return found


def _arguments(function: ast.FunctionDef, mark: str) -> Iterable[str]:
    """Yield the arguments of a function's marks, each once."""
    calls = (
        node for decorator in function.decorator_list for node in ast.walk(decorator) if isinstance(node, ast.Call)
    )
    named = [call for call in calls if (getattr(call.func, "id", None) or getattr(call.func, "attr", None)) == mark]
    return dict.fromkeys(str(each.value) for call in named for each in call.args if isinstance(each, ast.Constant))

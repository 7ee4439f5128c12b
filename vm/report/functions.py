# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read what test functions say of themselves, on the host: a guest is slow, and all kernels run the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.interface import marks
from vm.report.results import FunctionResult

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vm.report.results import KernelResult


def read(kernels: Iterable[KernelResult], *, root: Path) -> dict[str, FunctionResult]:
    """Return what each function of the kernels' cases says, as `read_cases` does."""
    return read_cases((case.id for kernel in kernels for case in kernel.cases), root=root)


def read_cases(cases: Iterable[str], *, root: Path) -> dict[str, FunctionResult]:
    """Return what each function of the cases says; ids of cases are relative to `root`.

    Functions of files that cannot be read are left out: reports then show their names alone.
    """
    names = dict.fromkeys(map(function_of, cases))
    texts: dict[str, dict[str, marks.FunctionText]] = {}
    found = {}
    for name in names:
        path, _, function = name.partition("::")
        if path not in texts:
            try:
                texts[path] = marks.functions(root / path)
            except (OSError, SyntaxError, ValueError):
                texts[path] = {}
        if (text := texts[path].get(function)) is not None:
            found[name] = FunctionResult(says=text.says, promises=list(text.promises), bugs=list(text.bugs))
    return found


def function_of(case: str) -> str:
    """Return a case's id without its parameters."""
    return case.partition("[")[0]


def parameters_of(case: str) -> str:
    """Return a case's parameters, without brackets; empty if it has none."""
    return case.partition("[")[2].removesuffix("]")

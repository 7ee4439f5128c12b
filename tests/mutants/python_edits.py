# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Edits of a module in Python, found by its syntax tree. Pure.

Each is a replacement of a few bytes, as in C, so that one runner tries both. Tools that do this for Python alone bring
runners of their own, which know neither a kernel nor C.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from .mutant import Edit

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Lt: ("<", ("<=", ">")),
    ast.Gt: (">", (">=", "<")),
    ast.LtE: ("<=", ("<",)),
    ast.GtE: (">=", (">",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "%"),
    ast.Mod: ("%", "//"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}
_ORDERS = {"big": "little", "little": "big"}
_NOT_CODE = {"__str__", "__repr__"}
"""Functions that only word what they are given."""
_UNTOUCHED = {"maxsize", "doc", "repr"}
"""Arguments that decide nothing: how much a cache keeps, and whether a field is printed."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def edits_of(content: bytes) -> list[Edit]:
    """Return every edit of a module."""
    tree = ast.parse(content)
    finder = _Finder(content, decorators=frozenset(_decorators(tree)))
    finder.visit(tree)
    return finder.edits


def _decorators(tree: ast.Module) -> Iterator[str]:
    """Yield the names of what decorates a module's functions: it runs as the module is imported."""
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, _Function) else ():
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(called, ast.Name):
                yield called.id


class _Finder(ast.NodeVisitor):
    def __init__(self, content: bytes, *, decorators: frozenset[str]) -> None:
        self._content = content
        self._decorators = decorators
        self._in_decorator = False
        self._lines = [0]
        for line in content.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._depth = 0  # of functions around
        self.edits: list[Edit] = []

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def _add(self, start: int, end: int, new: str, operator: str) -> None:
        at_import = self._in_decorator or not self._depth
        self.edits.append(Edit(start=start, end=end, new=new, operator=operator, at_import=at_import))

    def _replace_between(self, left: ast.expr, right: ast.expr, old: str, new: str, operator: str) -> None:
        """Replace an operator, which stands between its operands and perhaps parentheses."""
        place = self._content.find(old.encode(), self._end(left), self._start(right))
        if place >= 0:
            self._add(place, place + len(old), new, operator)

    # ---- what is left alone ----

    def visit_FunctionDef(self, node: _Function) -> None:
        """Look at the defaults, which are evaluated at import, then at the body without its docstring."""
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        if node.name in _NOT_CODE:
            return
        decorates = not self._depth and node.name in self._decorators
        self._in_decorator = self._in_decorator or decorates
        self._depth += 1
        for statement in node.body:
            self.visit(statement)
        self._depth -= 1
        self._in_decorator = self._in_decorator and not decorates

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Look at the body: bases and decorators say what kind of class it is."""
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Look at the value alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave text alone: what is inside has no positions before Python 3.12."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave errors their words; the branch that leads there is mutated."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave assertions alone: they tell the type checker something."""

    def visit_Import(self, node: ast.Import) -> None:
        """Leave imports alone."""

    visit_ImportFrom = visit_Import  # type: ignore[assignment]  # noqa: N815

    def visit_keyword(self, node: ast.keyword) -> None:
        """Leave some arguments alone."""
        if node.arg not in _UNTOUCHED:
            self.visit(node.value)

    # ---- statements ----

    def visit_Expr(self, node: ast.Expr) -> None:
        """Delete a call for its effect; a docstring is none."""
        if isinstance(node.value, ast.Constant):
            return
        if self._depth:
            self._delete(node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Delete an assignment to what had a value before: to a part of something."""
        if self._depth and all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._delete(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Delete it, and replace its operator."""
        if self._counts(node):
            return
        if self._depth:
            self._delete(node)
        self._arithmetic(node.op, node.target, node.value)
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        """Look at its value."""
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """Swap the branches; leave out what only the type checker sees."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._swap(node.test)
        if len(node.body) == 1 and isinstance(node.body[0], ast.Return) and not node.orelse:
            self._delete(node.body[0])
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Look at its condition and its body."""
        if not isinstance(node.test, ast.Constant):
            self.visit(node.test)
        for statement in node.body:
            self.visit(statement)

    def _delete(self, node: ast.stmt) -> None:
        lines = "\n" * self._content.count(b"\n", self._start(node), self._end(node))
        if not lines:
            self._add(self._start(node), self._end(node), "pass", "deleted statement")

    @staticmethod
    def _counts(node: ast.AugAssign) -> bool:
        """Return whether it counts how often a campaign took a way, which decides nothing."""
        return isinstance(node.target, ast.Subscript) and ast.unparse(node.target.value).endswith(".taken")

    # ---- expressions ----

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Swap the branches."""
        self._swap(node.test)
        self.generic_visit(node)

    def _swap(self, test: ast.expr) -> None:
        if isinstance(test, (ast.Compare, ast.UnaryOp)) and not isinstance(test, ast.BoolOp):
            return  # whose operator is mutated
        start, end = self._start(test), self._end(test)
        self._add(start, end, f"(not ({self._content[start:end].decode()}))", "swapped branch")

    def visit_Compare(self, node: ast.Compare) -> None:
        """Replace each operator."""
        for left, operator, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
            old, others = _COMPARISONS[type(operator)]
            for new in others:
                self._replace_between(left, right, old, new, "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Replace each `and` by `or`, and the other way."""
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._replace_between(left, right, old, new, "logic")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Replace the operator."""
        self._arithmetic(node.op, node.left, node.right)
        self.generic_visit(node)

    def _arithmetic(self, operator: ast.operator, left: ast.expr, right: ast.expr) -> None:
        if type(operator) in _ARITHMETIC:
            old, new = _ARITHMETIC[type(operator)]
            self._replace_between(left, right, old, new, "arithmetic")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave out `not` and `-`."""
        if isinstance(node.op, (ast.Not, ast.USub)):
            self._add(self._start(node), self._start(node.operand), "", "logic")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Look at it; a number in it is an offset."""
        for part in ast.walk(node.slice):
            if isinstance(part, ast.Constant) and type(part.value) is int:
                self._add(self._start(part), self._end(part), str(part.value + 1), "offset")
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self._without_constants(node.slice)

    def _without_constants(self, node: ast.AST) -> None:
        known = {(edit.start, edit.end) for edit in self.edits}
        before = len(self.edits)
        self.visit(node)
        self.edits[before:] = [edit for edit in self.edits[before:] if (edit.start, edit.end) not in known]

    def visit_Constant(self, node: ast.Constant) -> None:
        """Replace a number by the next, a truth by the other, an order of bytes by the other."""
        start, end = self._start(node), self._end(node)
        if isinstance(node.value, bool):
            self._add(start, end, str(not node.value), "constant")
        elif isinstance(node.value, int):
            text = self._content[start:end].decode()
            other = node.value - 1 if node.value == 0xFFFFFFFF else node.value + 1
            self._add(start, end, hex(other) if text.startswith("0x") else str(other), "constant")
        elif isinstance(node.value, float):
            self._add(start, end, repr(node.value * 2 or 1.0), "constant")
        elif isinstance(node.value, str):
            if node.value in _ORDERS:
                self._add(start, end, f'"{_ORDERS[node.value]}"', "byte order")
            elif node.value.startswith("=") and node.value[1:].replace("x", "").isalnum():
                self._add(start, end, f'">{node.value[1:]}"', "byte order")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Replace a result by another, and this machine's order of bytes by the other."""
        if isinstance(node.value, ast.Name) and node.value.id == "Result" and node.attr.isupper():
            other = "DROP_MISC" if node.attr != "DROP_MISC" else "PASS"
            self._add(self._end(node) - len(node.attr), self._end(node), other, "constant")
        elif isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("sys", "byteorder"):
            self._add(self._start(node), self._end(node), '"big"', "byte order")
        self.visit(node.value)

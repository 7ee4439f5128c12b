# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What each variant decides, one function each: the model's half of a program under bpf/. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.abi import NO_OVERRIDE, Result, unpack_command
from harness.decision import Decision, View, select

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.layout import Layout

    Rule = Callable[[View, Layout], Decision]

RULES: dict[str, Rule] = {}
"""By the variant's name in harness/programs.py."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a function as what the named variants decide."""

    def enter(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} has two rules")
            RULES[name] = function
        return function

    return enter


@rule("reference")
def reference(view: View, layout: Layout) -> Decision:
    """Read the index from the payload; the outer map has to hold the inner one."""
    command = unpack_command(view.payload)
    if command is None:
        return Decision(result=Result.DROP_ERR_SKB_DATA)
    if not layout.inner_present:
        return Decision(result=Result.DROP_ERR_INNER_MAP)
    index, pass_on_failure = command
    if layout.index_override == NO_OVERRIDE:
        return select(layout, index, pass_on_failure=pass_on_failure)
    overridden = select(layout, layout.index_override, pass_on_failure=pass_on_failure)
    return replace(overridden, override_spent=True)


@rule("by_source_port")
def by_source_port(view: View, layout: Layout) -> Decision:
    """Take the source port modulo the size of the group."""
    return select(layout, view.packet.source_port % layout.size)

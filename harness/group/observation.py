# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All that can be seen of a group after something was sent to it, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.group.reuseport_group import ReuseportGroup
    from harness.model.outcome import Reply


def observe(group: ReuseportGroup, send: Callable[[], Iterable[Reply]]) -> tuple[Outcome, int | None]:
    """Send by the function given, which returns the replies; return what came of it, and the hash that was recorded.

    The hash is None if the program did not run, or records nothing.
    """
    program = group.program
    program.forget_select_error()
    replies = tuple(send())
    results = program.new_results()
    context, hash_ = program.context() if results else (None, None)
    outcome = Outcome(
        received=group.collect(),
        results=results,
        context=context,
        select_errors=program.select_errors(),
        override=program.override,
        state=program.state,
        replies=replies,
    )
    return outcome, hash_

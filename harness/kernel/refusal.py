# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The expectation that the kernel refuses something, with a certain errno."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.model.uapi import ENOTSUPP

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect an OSError with that errno; AssertionError if there is another one, or none."""
    __tracebackhide__ = True
    got: OSError | None = None
    try:
        yield
    except OSError as error:
        got = error
    assert got is not None, f"accepted, expected {_name(number)}"
    assert got.errno == number, f"refused with {_name(got.errno)}, expected {_name(number)}: {got}"


def _name(number: int | None) -> str:
    if number == ENOTSUPP:
        return "ENOTSUPP (524)"
    return errno.errorcode.get(number or 0, str(number))

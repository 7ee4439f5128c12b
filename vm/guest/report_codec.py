# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Send each report from a guest as one string of bytes.

execnet serialises in Python, value by value: that takes 2 ms for each of a case's three reports, emulated.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

import pytest

from vm.guest.wire_format import FORMAT

if TYPE_CHECKING:
    from collections.abc import Generator

_PACKED = "packed"


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Pack a report in the guest."""
    data = yield
    try:
        return data and {_PACKED: marshal.dumps(data, FORMAT)}
    except ValueError:  # a value is of no built-in type: execnet's error names it
        return data


@pytest.hookimpl(wrapper=True)
def pytest_report_from_serializable(data: dict[str, Any]) -> Generator[None, object, object]:
    """Unpack a report on the host, before other plugins read it."""
    if _PACKED in data:
        data.update(marshal.loads(data.pop(_PACKED)))
    return (yield)

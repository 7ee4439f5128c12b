# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A case for a guest that nobody else uses: it lets users without capabilities call bpf(2), on the whole machine."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernel.unprivileged import errno_without
from harness.loader.maps import create_map

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN = Path("/proc/sys/kernel/unprivileged_bpf_disabled")


@pytest.fixture
def _anybody_may_call() -> Iterator[None]:
    before = FORBIDDEN.read_text()
    FORBIDDEN.write_text("0")
    yield
    FORBIDDEN.write_text(before)


@pytest.mark.usefixtures("wire", "_anybody_may_call")
@pytest.mark.parametrize(("kind", "answer"), [("array", 0), ("sockarray", errno.EPERM)])
def test_sockarray_needs_a_capability_by_itself(kind: str, answer: int) -> None:
    """Where anybody may call bpf(2), everybody may make an array, and a sockarray only who has CAP_BPF.

    `reuseport_array_alloc` looks itself; elsewhere `__sys_bpf` refuses before.
    """
    assert errno_without(lambda: create_map(kind, max_entries=1).close()) == answer

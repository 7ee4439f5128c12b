# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that differ by the key they take from a packet; the member is the one at the key modulo the group's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.abi import Result
from harness.layout import GROUP_SIZE, Bind, InnerMap
from harness.verdict import Delivered, Dropped

if TYPE_CHECKING:
    from harness.delivery import Delivery
    from harness.group import ReuseportGroup

pytestmark = pytest.mark.shapes(bind=Bind.ANY, inner_map=InnerMap.SOCKARRAY)


@pytest.mark.programs("by_source_port")
def test_source_port_names_the_member(group: ReuseportGroup, deliver: Delivery) -> None:
    """Ports that follow one another reach members that follow one another, whatever the payload."""
    for port in range(30000, 30000 + GROUP_SIZE):
        assert deliver(deliver.packet(b"any", source_port=port)) == Delivered(port % GROUP_SIZE)
    group.vacate(3)
    assert deliver(deliver.packet(source_port=3 * GROUP_SIZE + 3)) == Dropped(Result.DROP_ERR_SK_SELECT_REUSEPORT)

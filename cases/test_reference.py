# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The seven behaviours of the kernel's own test_select_reuseport, over every shape of group.

The payload names a member by its index in the inner map, and says whether a failure to select passes on to the hash.
Every delivery is held against the model in full: members, maps, the record of what the program saw, the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.layout import GROUP_SIZE
from harness.verdict import Delivered

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.delivery import Delivery
    from harness.packets import Packet

    Command = Callable[..., Packet]


def test_every_member_is_reached_by_its_index(deliver: Delivery, command: Command) -> None:
    """The packet goes to the member that the payload names, whoever sent it."""
    for index in range(GROUP_SIZE):
        assert deliver(command(index)) == Delivered(index)

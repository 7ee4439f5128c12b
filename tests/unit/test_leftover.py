# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a history leaves behind is seen: any socket that still has its port."""

from __future__ import annotations

import socket

import pytest

from harness.campaign.leftover import is_taken
from harness.model.layout import Family, Protocol


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
@pytest.mark.parametrize("reuseport", [False, True], ids=["alone", "reuseport"])
def test_port_of_a_socket_is_taken_until_it_closes(protocol: Protocol, address: str, *, reuseport: bool) -> None:
    family = Family.IPV6 if ":" in address else Family.IPV4
    with socket.socket(family.address_family, protocol.socket_type) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
        made.bind((address, 0))
        port = made.getsockname()[1]
        assert is_taken(protocol, port)
    assert not is_taken(protocol, port)

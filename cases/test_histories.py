# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories and packets that nobody thought of: hypothesis makes them, the model predicts, the kernel answers.

docs/campaigns.md says how to run them for longer, and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cases import each_protocol

if TYPE_CHECKING:
    from harness.cases import Histories, PacketCampaign, TwoLives
    from harness.model.layout import Protocol

pytestmark = [pytest.mark.history, pytest.mark.alone]


@each_protocol
def test_kernel_lives_as_the_model_does(histories: Histories, protocol: Protocol) -> None:
    """After each step of any history of the sockets on a port, each packet finds the socket that the model says."""
    histories.campaign(protocol)


@pytest.mark.parametrize("ports", [1, 2], ids=["one-port", "two-ports"])
def test_two_lives_at_once(two_lives: TwoLives, ports: int) -> None:
    """Two histories at once leave each other alone on two ports; on one port nobody gets a packet twice."""
    two_lives.campaign(ports=ports)


def test_kernel_takes_packets_as_the_model_does(packet_campaign: PacketCampaign) -> None:
    """Of packets that are bent in any way, each is lost, refused or selected as the model says."""
    packet_campaign.campaign()

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Groups that hear of packets through a VRF device: the packet has two devices, its link and the link's master."""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.cases import Family, Protocol, each_family, each_protocol, promise, requires
from harness.kernel.refusal import refused
from harness.wire.master import MASTER_LINK
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import AttachReference, Bench, Wire

pytestmark = requires("vrf")


@pytest.fixture(scope="module")
def wire(wire: Wire) -> Iterator[Wire]:
    """Return a wire whose server's end is under a VRF device."""
    with closing(type(wire)(cpu=wire.settings.cpu, under_vrf=True)) as made:
        yield made


@promise("vrf.bound")
@each_protocol
@each_family
@pytest.mark.parametrize("device", [MASTER_LINK, SERVER_LINK], ids=["master", "link"])
def test_group_of_the_link_or_of_its_master_is_selected(
    bench: Bench, attach_reference: AttachReference, protocol: Protocol, family: Family, device: str
) -> None:
    """A group that is bound to the packet's link, or to the VRF device above it, gets it as its program says."""
    members = bench.group(2, protocol, family, device=device)
    attach_reference(members)
    packets = [bench.packet(index, protocol, family) for index in (0, 1, 1, 0)]
    assert bench.send_and_find_each(packets) == [members[0], members[1], members[1], members[0]]


@promise("vrf.unbound")
@each_protocol
@each_family
@pytest.mark.parametrize("accepting", [False, True])
def test_group_without_a_device_is_selected_where_a_sysctl_says_so(
    bench: Bench, protocol: Protocol, family: Family, accepting: bool
) -> None:
    """A group without a device gets packets of a VRF if net.ipv4.udp_l3mdev_accept (TCP: tcp_) is 1, and else none."""
    bench.wire.settings.set(f"net/ipv4/{protocol}_l3mdev_accept", int(accepting))
    members = bench.group(2, protocol, family)
    found = bench.send_and_find_each(bench.packets(20, 0, protocol, family))
    assert set(found) == (set(members) if accepting else {None})


@promise("vrf.ports")
@each_family
@pytest.mark.parametrize("accepting", [False, True])
def test_tcp_port_of_a_vrf_is_a_port_of_its_own(bench: Bench, family: Family, accepting: bool) -> None:
    """A TCP socket of a VRF may have a group's port without SO_REUSEPORT, unless net.ipv4.tcp_l3mdev_accept is 1."""
    bench.wire.settings.set("net/ipv4/tcp_l3mdev_accept", int(accepting))
    bench.group(2, Protocol.TCP, family)
    if accepting:
        with refused(errno.EADDRINUSE):
            bench.open(Protocol.TCP, family, device=MASTER_LINK, reuseport=False)
    else:
        alone = bench.open(Protocol.TCP, family, device=MASTER_LINK, reuseport=False)
        assert bench.send_and_find_each(bench.packets(5, 0, Protocol.TCP, family)) == [alone] * 5

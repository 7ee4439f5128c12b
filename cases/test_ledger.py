# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bugs of the ledger that no other case shows: a leak, and binds that collide or do not."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import ANOTHER_USER, each_family, each_protocol, ledger, promise, requires, returning
from harness.group.sockets import reset_on_close
from harness.kernel.refusal import refused
from harness.loader.program import attach_classic
from harness.model.abi import native_bytes
from harness.model.layout import Family, InnerMap, Protocol
from harness.model.uapi import SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_EBPF
from harness.wire.namespace import Namespace
from harness.wire.veth import SERVER_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.cases import Bench, LoadProgram


CLIENTS = 8
PORTS = 3

QUIET = 0.3
"""Seconds without a change until nothing more is going to be freed: kernel workers do that, in their own time."""


def sockets_in_use() -> int:
    """Return the namespace's count of sockets that were not freed, once it has come to rest."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET:
        (line,) = (each for each in Path("/proc/self/net/sockstat").read_text().splitlines() if "sockets:" in each)
        if (now := int(line.split()[2])) != count:
            count, since = now, time.monotonic()
        time.sleep(0.01)
    return count


@promise("helper.no-leak")
@ledger("K12")
@each_family
@requires("select_from_sockmap")
def test_established_socket_is_not_kept_by_a_selection(bench: Bench, load_program: LoadProgram, family: Family) -> None:
    """A sockmap may hold a connected TCP socket; selecting it is EBADFD and takes no reference (b3af60928ab9).

    The socket has to be in a group before it connects: attaching a program makes it one.
    """
    before = sockets_in_use()
    with load_program("reference", inner_map=InnerMap.SOCKMAP, size=CLIENTS) as program, ExitStack() as undo:
        listener = bench.open(Protocol.TCP, family)
        bench[listener].setblocking(True)
        for index in range(CLIENTS):
            client = undo.enter_context(closing(socket.socket(family.address_family, socket.SOCK_STREAM)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reset_on_close(client)
            client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.fd)
            client.connect((family.server, bench.port))
            accepted = undo.enter_context(closing(bench[listener].accept()[0]))
            reset_on_close(accepted)
            bench.fill(program.inner, [bench.adopt(client)], first=index)
        bench.attach(listener, program)
        for index in range(CLIENTS):
            assert bench.send_and_capture(bench.packet(index, Protocol.TCP, family))
            assert program.select_errors() == (-errno.EBADFD,)
    bench.close()
    # What other cases let go of may still be on its way: fewer is no leak.
    assert sockets_in_use() <= before


@promise("bind.wildcard-conflict")
@ledger("K15")
@pytest.mark.parametrize("reuseport", [False, True], ids=["alone", "another-user"])
@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_wildcard_collides_with_many_addresses(bench: Bench, wildcard: str, reuseport: bool) -> None:
    """A port that twelve sockets have on as many addresses is not to be had on the wildcard (e537dd15d0d4).

    From the eleventh on the kernel looks for conflicts in another table: by address. There the wildcard may by chance
    lie where one of the addresses does, and a kernel with the bug notices; not on each of several ports.
    """
    family = Family.IPV4 if wildcard == "0.0.0.0" else Family.IPV6
    for port in range(bench.port, bench.port + PORTS):
        bench.port = port
        for host in range(1, 13):
            bench.open(Protocol.UDP, Family.IPV4, f"127.0.0.{host}", reuseport=reuseport)
        with refused(errno.EADDRINUSE):
            bench.open(Protocol.UDP, family, wildcard, reuseport=reuseport, user=ANOTHER_USER if reuseport else None)


ADDRESSES = ("0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1")
PLAIN_ADDRESSES = tuple(address for address in ADDRESSES if "ffff" not in address)
ANY = "any"


def claims(address: str, v6only: bool) -> dict[int, str]:
    """Return what a socket on an address claims: for IP version 4 and 6 the host, or any."""
    version4 = {"0.0.0.0": ANY, "::ffff:0.0.0.0": ANY, "127.0.0.1": "local", "::ffff:127.0.0.1": "local"}
    if address in version4:
        return {4: version4[address]}
    if address == "::1":
        return {6: "local"}
    return {6: ANY} if v6only else {4: ANY, 6: ANY}


def collide(one: dict[int, str], other: dict[int, str]) -> bool:
    """Tell whether two claims overlap."""
    return any(
        ANY in (one[version], other[version]) or one[version] == other[version] for version in one.keys() & other
    )


@promise("bind.matrix")
@pytest.mark.parametrize(
    ("reuseport", "protocol", "addresses"),
    [
        pytest.param(False, Protocol.UDP, ADDRESSES, id="alone-udp"),
        # TCP alone keeps a second table of binds (bhash2, Linux 6.1), which had to learn of mapped addresses.
        pytest.param(False, Protocol.TCP, ADDRESSES, id="alone-tcp", marks=ledger("K20")),
        pytest.param(False, Protocol.TCP, PLAIN_ADDRESSES, id="alone-tcp-plain"),
        pytest.param(True, Protocol.UDP, ADDRESSES, id="shared-udp"),
        pytest.param(True, Protocol.TCP, ADDRESSES, id="shared-tcp"),
    ],
)
def test_binds_collide_where_addresses_overlap(
    bench: Bench, protocol: Protocol, reuseport: bool, addresses: Sequence[str]
) -> None:
    """Two sockets may have a port if their addresses do not overlap, or if both have SO_REUSEPORT, in either order."""
    choices = {"::": (False, True), "::1": (False, True)}
    kinds = [(address, v6only) for address in addresses for v6only in choices.get(address, (False,))]
    wrong = []
    for one, other in product(kinds, kinds):
        expected = reuseport or not collide(claims(*one), claims(*other))
        accepted = False
        with suppress(OSError):
            for address, v6only in (one, other):
                family = Family.IPV6 if ":" in address else Family.IPV4
                bench.open(
                    protocol,
                    family,
                    address,
                    reuseport=reuseport,
                    v6only=v6only if family is Family.IPV6 else None,
                    listen=False,
                )
            accepted = True
        if accepted != expected:
            wrong.append(f"{one} then {other}: {'accepted' if accepted else 'refused'}")
        bench.close()
    assert not wrong, "\n".join(wrong)


@promise("bind.devices")
@each_protocol
@each_family
def test_port_is_free_on_another_device(bench: Bench, protocol: Protocol, family: Family) -> None:
    """Sockets that are bound to two devices may have a port; one that is bound to none collides with both."""
    bench.open(protocol, family, device=SERVER_LINK, reuseport=False)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, device=SERVER_LINK, reuseport=False)
    bench.open(protocol, family, device="lo", reuseport=False)
    with refused(errno.EADDRINUSE):
        bench.open(protocol, family, reuseport=False)


@contextmanager
def option_memory(size: int) -> Iterator[None]:
    """Limit what a socket may hold in filters and options; for the whole machine before Linux 6.8, which has it here.

    net.core.optmem_max, see socket(7).
    """
    with where_it_is_set() as sysctl:
        before = sysctl.read_text()
        sysctl.write_text(f"{size}\n")
    try:
        yield
    finally:
        with where_it_is_set() as sysctl:
            sysctl.write_text(before)


@contextmanager
def where_it_is_set() -> Iterator[Path]:
    """Enter the machine's first namespace if this one has no net.core.optmem_max; return the sysctl's path."""
    sysctl = Path("/proc/sys/net/core/optmem_max")
    with ExitStack() as undo:
        if not sysctl.exists():
            first = undo.enter_context(closing(Namespace(os.open("/proc/1/ns/net", os.O_RDONLY))))
            undo.enter_context(first.inside())
        yield sysctl


@promise("membership.clone-fails")
@ledger("K29")
@each_family
def test_child_that_cannot_be_made_leaves_the_listener_its_slot(
    bench: Bench, load_for_test: LoadProgram, family: Family
) -> None:
    """A listener keeps its slot when the socket of a connection cannot be made (`sk_clone`, 98da8ce87dd5).

    Here there is no memory for the copy of the listener's filter. With the bug the copy, as it is freed, takes the
    listener's slot along, and the listener can be put into no slot any more.
    """
    listener = bench.open(Protocol.TCP, family)
    attach_classic(bench[listener], returning(0xFFFF), option=SO_ATTACH_FILTER)
    program = load_for_test("reference", size=1)
    bench.attach(listener, program)
    bench.fill(program.inner, [listener])
    packet = bench.packet(0, Protocol.TCP, family)
    syn_ack = bench.send_syn(packet)
    with option_memory(0):
        bench.send_ack(packet, syn_ack)
    assert bench.read() == {}
    assert program.inner is not None
    assert program.inner.at(0) == native_bytes(bench.cookie(listener), 8)
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == listener

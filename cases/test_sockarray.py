# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a REUSEPORT_SOCKARRAY takes, refuses and gives back, errno by errno (kernel/bpf/reuseport_array.c).

A slot holds a socket for as long as the socket is in a group; a socket is in one slot of one array at most.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.cases import FOUR_TUPLE_HASH, each_family, each_protocol, ledger, promise, requires
from harness.group.sockets import reset_on_close, socket_of
from harness.kernel.refusal import refused
from harness.kernel.release import running
from harness.loader.maps import create_map
from harness.model.layout import Family, Protocol
from harness.model.uapi import BPF_ANY, BPF_EXIST, BPF_NOEXIST, ENOTSUPP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cases import Bench, LoadProgram
    from harness.loader.maps import Map


SIZE = 4
NETLINK_XFRM = 6  # include/uapi/linux/netlink.h; IPPROTO_TCP is 6 as well
BPF_F_NUMA_NODE = 4  # include/uapi/linux/bpf.h; the node is 0 unless another is named


@pytest.fixture
def array(bench: Bench) -> Iterator[Map]:
    """Return a sockarray of four slots that answers with cookies."""
    with closing(create_map("sockarray", max_entries=SIZE)) as made:
        yield made


def key(index: int) -> bytes:
    """Return an index as the map's key."""
    return struct.pack("=I", index)


def value(cookie: int) -> bytes:
    """Return a cookie as the value that a lookup returns."""
    return struct.pack("=Q", cookie)


def put(array: Map, index: int, made: socket.socket, *, flags: int = BPF_ANY) -> None:
    """Put a socket into a slot."""
    array.put(index, made.fileno(), flags=flags)


@promise("sockarray.create")
@pytest.mark.parametrize(
    ("key_size", "value_size", "max_entries", "flags"),
    [
        pytest.param(4, 2, 1, 0, id="value-of-2"),
        pytest.param(4, 6, 1, 0, id="value-of-6"),
        pytest.param(4, 16, 1, 0, id="value-of-16"),
        pytest.param(2, 8, 1, 0, id="key-of-2"),
        pytest.param(8, 8, 1, 0, id="key-of-8"),
        pytest.param(4, 8, 0, 0, id="no-entries"),
        pytest.param(4, 8, 1, 1, id="no-prealloc"),
        pytest.param(4, 8, 1, 2, id="no-common-lru"),
    ],
)
@pytest.mark.usefixtures("wire")
def test_array_of_another_form_is_refused(key_size: int, value_size: int, max_entries: int, flags: int) -> None:
    """A sockarray has keys of four bytes, values of four or eight, and at least one slot: else EINVAL."""
    with refused(errno.EINVAL):
        create_map("sockarray", key_size=key_size, value_size=value_size, max_entries=max_entries, flags=flags)


@promise("sockarray.create-value-size")
@pytest.mark.parametrize("value_size", [4, 8])
@pytest.mark.usefixtures("wire")
def test_array_of_four_or_eight_byte_values_is_made(value_size: int) -> None:
    """A sockarray's values have four bytes for a descriptor, or eight: a descriptor in updates, a cookie in lookups."""
    create_map("sockarray", value_size=value_size, max_entries=1).close()


@promise("sockarray.create-numa-node")
@each_protocol
def test_array_may_be_made_on_a_numa_node(bench: Bench, protocol: Protocol) -> None:
    """A sockarray may be asked for on a NUMA node (BPF_F_NUMA_NODE), and takes members as any other."""
    number = bench.open(protocol)
    with closing(create_map("sockarray", max_entries=1, flags=BPF_F_NUMA_NODE)) as made:
        put(made, 0, bench[number])
        assert made.at(0) == value(bench.cookie(number))


@promise("sockarray.update")
@each_protocol
@each_family
def test_member_is_put_and_its_cookie_read(bench: Bench, array: Map, protocol: Protocol, family: Family) -> None:
    """A lookup in a sockarray returns the cookie that SO_COOKIE returns for the socket."""
    number = bench.open(protocol, family)
    put(array, 2, bench[number])
    assert array.at(2) == value(bench.cookie(number))
    assert [array.at(index) for index in (0, 1, 3)] == [None] * 3


@promise("sockarray.update-flags")
def test_unknown_flags_are_refused(bench: Bench, array: Map) -> None:
    """An update of a sockarray takes BPF_ANY, BPF_NOEXIST or BPF_EXIST; every other flag is EINVAL."""
    number = bench.open()
    for flags in (3, 4, 8, 1 << 32):
        with refused(errno.EINVAL):
            put(array, 0, bench[number], flags=flags)


@promise("sockarray.index-range")
def test_index_beyond_the_array_is_refused(bench: Bench, array: Map) -> None:
    """An index beyond the sockarray is E2BIG for updates and deletes, and an empty slot for lookups."""
    number = bench.open()
    for index in (SIZE, SIZE + 1, 1 << 31, (1 << 32) - 1):
        with refused(errno.E2BIG):
            put(array, index, bench[number])
        with refused(errno.E2BIG):
            array.remove(index)
        assert array.at(index) is None


@promise("sockarray.fd-range")
def test_descriptor_over_31_bits_is_refused(array: Map) -> None:
    """A value beyond 31 bits is no descriptor: EINVAL."""
    for fd in (1 << 31, 1 << 32, (1 << 64) - 1):
        with refused(errno.EINVAL):
            array.put(0, fd)


@promise("sockarray.bad-fd")
def test_closed_descriptor_is_refused(array: Map) -> None:
    """A descriptor that is not open is no socket to put: EBADF."""
    with refused(errno.EBADF):
        array.put(0, 1 << 20)


@promise("sockarray.not-a-socket")
def test_descriptor_of_something_else_is_refused(array: Map) -> None:
    """The descriptor of a pipe or a map is no socket to put: ENOTSOCK."""
    reading, writing = os.pipe()
    try:
        for fd in (array.fd, reading, writing):
            with refused(errno.ENOTSOCK):
                array.put(0, fd)
    finally:
        os.close(reading)
        os.close(writing)


@promise("sockarray.noexist", "sockarray.exist")
@each_protocol
def test_flags_ask_for_an_empty_or_a_used_slot(bench: Bench, array: Map, protocol: Protocol) -> None:
    """BPF_NOEXIST fills an empty slot alone (else EEXIST), BPF_EXIST a used one alone (else ENOENT)."""
    first, second = bench.group(2, protocol)
    with refused(errno.ENOENT):
        put(array, 0, bench[first], flags=BPF_EXIST)
    put(array, 0, bench[first], flags=BPF_NOEXIST)
    with refused(errno.EEXIST):
        put(array, 0, bench[second], flags=BPF_NOEXIST)
    put(array, 0, bench[second], flags=BPF_EXIST)
    assert array.at(0) == value(bench.cookie(second))


@promise("sockarray.socket-kind")
@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        pytest.param(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP, id="raw-udp"),
        pytest.param(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP, id="raw-tcp6"),
        pytest.param(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, id="ping"),
        pytest.param(socket.AF_UNIX, socket.SOCK_DGRAM, 0, id="unix-datagram"),
        pytest.param(socket.AF_UNIX, socket.SOCK_STREAM, 0, id="unix-stream"),
        pytest.param(socket.AF_PACKET, socket.SOCK_RAW, 0, id="packet"),
        pytest.param(socket.AF_NETLINK, socket.SOCK_RAW, 0, id="netlink"),
    ],
)
def test_socket_that_has_no_groups_is_refused(array: Map, family: int, kind: int, protocol: int) -> None:
    """A sockarray takes TCP and UDP sockets, stream and datagram, over IPv4 and IPv6: others are 524."""
    with socket_of(family, kind, protocol) as made, refused(ENOTSUPP):
        put(array, 0, made)


@promise("sockarray.protocol-of-another-family")
def test_number_of_tcp_means_nothing_in_another_family(array: Map) -> None:
    """A socket of another family is 524 for a sockarray, also where its protocol has the number of TCP."""
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_XFRM)
    except OSError:  # EPROTONOSUPPORT
        pytest.skip("NETLINK_XFRM, the one protocol of that number, is not in this kernel (CONFIG_XFRM_USER)")
    with closing(made), refused(ENOTSUPP):
        put(array, 0, made)


@promise("sockarray.not-in-a-group")
@each_protocol
@each_family
def test_socket_outside_any_group_is_refused(bench: Bench, array: Map, protocol: Protocol, family: Family) -> None:
    """A socket that is not bound, does not listen, or does not share its port is in no group: EINVAL."""
    unbound = bench.open(protocol, family, bind=False)
    alone = bench.open(protocol, family, reuseport=False)
    numbers = [unbound, alone]
    if protocol is Protocol.TCP:
        bench[alone].close()
        numbers = [unbound, bench.open(protocol, family, listen=False)]
    for number in numbers:
        with refused(errno.EINVAL):
            put(array, 0, bench[number])


@promise("sockarray.group-of-its-own")
@each_protocol
@each_family
def test_socket_that_has_a_program_and_no_port_is_refused(
    bench: Bench, array: Map, load_for_test: LoadProgram, protocol: Protocol, family: Family
) -> None:
    """A program that is attached before bind() makes a group, but a slot takes its socket only as it joins: EINVAL."""
    number = bench.open(protocol, family, bind=False)
    bench.attach(number, load_for_test("reference", size=1))
    with refused(errno.EINVAL):
        put(array, 0, bench[number])
    bench.bind(number, family)
    put(array, 0, bench[number])


@promise("sockarray.tcp-client")
@each_family
def test_connected_tcp_socket_is_refused(bench: Bench, array: Map, family: Family) -> None:
    """Of TCP a sockarray takes listeners alone: either end of a connection is EINVAL, with SO_REUSEPORT or without."""
    listener = bench.open(Protocol.TCP, family)
    bench[listener].setblocking(True)
    with closing(socket.socket(family.address_family, socket.SOCK_STREAM)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        client.connect((family.server, bench.port))
        accepted, _ = bench[listener].accept()
        reset_on_close(accepted)
        with closing(accepted):
            for made in (client, accepted):
                with refused(errno.EINVAL):
                    put(array, 0, made)


@promise("sockarray.busy")
@each_protocol
@each_family
def test_socket_is_in_one_slot_at_most(bench: Bench, array: Map, protocol: Protocol, family: Family) -> None:
    """A socket that is in a sockarray is EBUSY for every slot of every sockarray, its own slot included."""
    number = bench.open(protocol, family)
    put(array, 1, bench[number])
    with closing(create_map("sockarray", max_entries=1)) as other:
        for target, index in ((array, 0), (array, 1), (other, 0)):
            for flags in (BPF_ANY, BPF_NOEXIST if index != 1 else BPF_EXIST):
                with refused(errno.EBUSY):
                    put(target, index, bench[number], flags=flags)


@promise("sockarray.or-sockmap")
@each_protocol
@requires("select_from_sockmap", "udp_in_sockmap")
def test_socket_is_in_a_sockarray_or_in_sockmaps(bench: Bench, array: Map, protocol: Protocol) -> None:
    """A socket in a sockarray is EBUSY for sockmaps, and the other way round: both use its `sk_user_data`."""
    first, second = bench.group(2, protocol)
    with closing(create_map("sockmap", max_entries=2)) as sockmap:
        put(array, 0, bench[first])
        with refused(errno.EBUSY):
            put(sockmap, 0, bench[first])
        put(sockmap, 1, bench[second])
        with refused(errno.EBUSY):
            put(array, 1, bench[second])


@promise("sockarray.replace")
@each_protocol
def test_socket_that_was_replaced_is_free_again(bench: Bench, array: Map, protocol: Protocol) -> None:
    """BPF_ANY replaces the socket in a slot; the one that was there may go into another slot at once."""
    first, second = bench.group(2, protocol)
    put(array, 0, bench[first])
    put(array, 0, bench[second])
    put(array, 1, bench[first])
    assert [array.at(index) for index in range(2)] == [
        value(bench.cookie(second)),
        value(bench.cookie(first)),
    ]


@promise("sockarray.delete")
@each_protocol
def test_deleting_empties_the_slot_and_frees_the_socket(bench: Bench, array: Map, protocol: Protocol) -> None:
    """Deleting an empty slot is ENOENT; a deleted socket may be put again."""
    number = bench.open(protocol)
    with refused(errno.ENOENT):
        array.remove(0)
    for _ in range(3):
        put(array, 0, bench[number])
        array.remove(0)
        assert array.at(0) is None


@promise("sockarray.lookup-four-bytes")
def test_lookup_in_four_byte_values_has_no_space(bench: Bench) -> None:
    """A lookup in a sockarray of four-byte values, which hold no cookie, is ENOSPC, whether the slot is used or not."""
    number = bench.open()
    with closing(create_map("sockarray", value_size=4, max_entries=2)) as narrow:
        narrow.put(0, bench[number].fileno())
        for index in (0, 1):
            with refused(errno.ENOSPC):
                narrow.at(index)


@promise("sockarray.next-key")
def test_keys_are_walked_whether_used_or_not(bench: Bench, array: Map) -> None:
    """Every index of a sockarray is a key, used or not: ENOENT follows the last, the first one any out of range."""
    put(array, 2, bench[bench.open()])
    walked, at = [], array.next_key(None)
    while at is not None:
        walked.append(at)
        at = array.next_key(at)
    assert walked == [key(index) for index in range(SIZE)]
    for beyond in (SIZE, (1 << 32) - 1):
        assert array.next_key(key(beyond)) == key(0)


@promise("sockarray.close")
@each_protocol
@each_family
def test_closing_a_socket_empties_its_slot(bench: Bench, array: Map, protocol: Protocol, family: Family) -> None:
    """Closing a socket empties its slot, and no other."""
    first, second = bench.group(2, protocol, family)
    put(array, 0, bench[first])
    put(array, 1, bench[second])
    bench[second].close()
    assert array.at(1) is None
    assert array.at(0) == value(bench.cookie(first))
    bench[first].close()
    assert array.at(0) is None


@promise("sockarray.shutdown")
@each_family
def test_shutting_a_listener_down_empties_its_slot(bench: Bench, array: Map, family: Family) -> None:
    """A listener that is shut down leaves its group and its slot; it may be put again once it listens again."""
    number = bench.open(Protocol.TCP, family)
    put(array, 0, bench[number])
    bench[number].shutdown(socket.SHUT_RD)
    assert array.at(0) is None
    with refused(errno.EINVAL):
        put(array, 0, bench[number])
    bench[number].listen(8)
    put(array, 0, bench[number])


@promise("sockarray.udp-shutdown")
@each_family
def test_shutting_a_datagram_socket_down_changes_nothing(bench: Bench, array: Map, family: Family) -> None:
    """shutdown(2) of a UDP socket without a peer is ENOTCONN and leaves it in its slot."""
    number = bench.open(Protocol.UDP, family)
    put(array, 0, bench[number])
    with refused(errno.ENOTCONN):
        bench[number].shutdown(socket.SHUT_RD)
    assert array.at(0) == value(bench.cookie(number))


@promise("sockarray.free")
@each_protocol
def test_sockets_outlive_their_array(bench: Bench, protocol: Protocol) -> None:
    """Sockets outlive their sockarray: they receive as before and may be put into another one.

    The array is freed after its descriptor's close(), by the kernel's own time: the second one waits for it.
    """
    members = bench.group(3, protocol)
    with closing(create_map("sockarray", max_entries=3)) as first:
        bench.fill(first, members)
    assert set(bench.send_and_find_each(bench.packets(9, 0, protocol))) <= set(members)
    with closing(create_map("sockarray", max_entries=3)) as second:
        for index, number in enumerate(members):
            _until_free(second, index, bench[number])
        assert [second.at(index) for index in range(3)] == [value(bench.cookie(each)) for each in members]


def _until_free(array: Map, index: int, made: socket.socket) -> None:
    """Put a socket once the array that it was in is gone: bpf_map_free_deferred() runs in a kernel worker."""
    attempts = 0
    while True:
        try:
            put(array, index, made)
        except OSError as error:
            attempts += 1
            if error.errno != errno.EBUSY or attempts > 100_000:
                raise
            os.sched_yield()
        else:
            return


@promise("sockarray.accepted-children")
@ledger("K9")
@each_family
def test_connections_of_a_listener_leave_its_slot_alone(bench: Bench, array: Map, family: Family) -> None:
    """Accepted connections are copies of their listener, but closing them leaves its slot alone (c9a368f1c0fb)."""
    number = bench.open(Protocol.TCP, family)
    put(array, 0, bench[number])
    assert bench.send_and_find_each(bench.packets(20, 0, Protocol.TCP, family)) == [number] * 20
    bench.reset_connections()
    assert array.at(0) == value(bench.cookie(number))
    array.remove(0)


@promise("sockarray.accepted-in-sockmap")
@requires("select_from_sockmap", "udp_in_sockmap")
@each_family
def test_connection_of_a_listener_in_a_slot_fits_in_a_sockmap(bench: Bench, array: Map, family: Family) -> None:
    """An accepted connection has nothing of its listener's slot: it is not EBUSY for a sockmap (`sk_clone_lock`)."""
    number = bench.open(Protocol.TCP, family)
    put(array, 0, bench[number])
    assert bench.send_and_find(bench.packet(0, Protocol.TCP, family)) == number
    (connection,) = bench.take_connections()
    with closing(connection), closing(create_map("sockmap", max_entries=1)) as sockmap:
        put(sockmap, 0, connection)


@promise("sockarray.udp-connect-specific")
@each_family
def test_connecting_a_member_on_an_address(bench: Bench, array: Map, family: Family) -> None:
    """connect() takes a UDP socket that is bound to an address out of group and slot from Linux 6.13 on, not before.

    Since 78c91ae2c6de a connected socket is hashed by its four-tuple, and `udp_lib_hash4` takes it out of the group.
    """
    number = bench.open(Protocol.UDP, family, family.server)
    put(array, 0, bench[number])
    bench[number].connect((family.peer, 999))
    left = running() >= FOUR_TUPLE_HASH
    assert array.at(0) == (None if left else value(bench.cookie(number)))


@promise("sockarray.udp-connect-wildcard")
@each_family
def test_connecting_a_member_on_the_wildcard_empties_its_slot(bench: Bench, array: Map, family: Family) -> None:
    """connect() gives a wildcard UDP socket an address: it is hashed anew, and leaves group and slot."""
    number = bench.open(Protocol.UDP, family)
    put(array, 0, bench[number])
    bench[number].connect((family.peer, 999))
    assert array.at(0) is None


@promise("sockarray.foreign-select")
@ledger("K11")
@each_protocol
def test_helper_tells_what_is_wrong_with_a_socket(bench: Bench, load_for_test: LoadProgram, protocol: Protocol) -> None:
    """The helper refuses a socket of another group with EBADFD, of another protocol EPROTOTYPE, family EAFNOSUPPORT."""
    number = bench.open(protocol)
    other_protocol = Protocol.TCP if protocol is Protocol.UDP else Protocol.UDP
    strangers = {
        errno.EPROTOTYPE: bench.open(other_protocol),
        errno.EAFNOSUPPORT: bench.open(protocol, Family.IPV6, v6only=True),
        errno.EBADFD: bench.open(protocol, address="127.0.0.1"),
    }
    program = load_for_test("reference", size=len(strangers))
    bench.attach(number, program)
    bench.fill(program.inner, strangers.values())
    answers = {}
    for index, error in enumerate(strangers):
        assert bench.send_and_find(bench.packet(index, protocol)) is None
        answers[error] = program.select_errors()
    assert answers == {error: (-error,) for error in strangers}

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases for a kernel of the flavour gcov: what is left of a group where there is no memory for what a call asks for.

Whatever failed, the same call has to succeed when there is memory again, and what a group was before, it still is.
/proc/thread-self/fail-nth has the Nth allocation of a thread fail, of those that may not wait for memory
(Documentation/fault-injection/fault-injection.rst, CONFIG_FAILSLAB): all of net/core/sock_reuseport.c are such.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases import INITIAL_SIZE, Family, Protocol, each_family, each_protocol, requires
from harness.group.netstat import counter
from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.model.layout import InnerMap
from harness.model.uapi import SO_ATTACH_REUSEPORT_EBPF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.cases import Bench, LoadProgram

FAILURES = {errno.ENOMEM, errno.EADDRINUSE}
"""What calls say that had no memory: bind() of UDP takes whatever stops it from joining for a port that is in use
(net/ipv4/udp.c, `udp_lib_get_port`)."""

MOST_ALLOCATIONS = 50
"""Of one call, by far."""


FAILSLAB = Path("/sys/kernel/debug/failslab")

STEP = 64
"""Bytes: less than the smallest allocation that a case is about, the bitmap of numbers (128, IDA_CHUNK_SIZE)."""

BEFORE_A_GROUP = 1024
"""Bytes: more than the buckets of a port take, and less than a group (2048, for 128 members)."""


@pytest.fixture(autouse=True)
def _failslab() -> Iterator[None]:
    """Have allocations of those threads fail that ask for it, and no failure print its stack as a complaint would."""
    settings = {"verbose": "0", "task-filter": "Y", "times": "1000000", "probability": "100"}
    before = {name: (FAILSLAB / name).read_text() for name in settings}
    for name, value in settings.items():
        (FAILSLAB / name).write_text(value)
    yield
    for name, value in before.items():
        (FAILSLAB / name).write_text(value)


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """Let this thread's allocations have fewer than so many bytes together; each fails that would take more.

    Where one failure has the kernel try another way, this fails, too: fail-nth lets the second try succeed.
    """
    descriptor = os.open(f"/proc/self/task/{threading.get_native_id()}/make-it-fail", os.O_RDWR)
    (FAILSLAB / "space").write_text(str(size))
    try:
        os.pwrite(descriptor, b"1", 0)
        try:
            yield
        finally:
            os.pwrite(descriptor, b"0", 0)
    finally:
        os.close(descriptor)


def each_time_there_is_no_memory(act: Callable[[], object]) -> int:
    """Have `act` fail for want of memory in each place where it can, and then succeed; return in how many it failed."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/fail-nth")
    # Opened before: what opening allocates is not to fail.
    descriptor = os.open(path, os.O_RDWR)
    try:
        for number in range(1, MOST_ALLOCATIONS):
            os.pwrite(descriptor, str(number).encode(), 0)
            try:
                act()
            except OSError as error:
                failure = error.errno
            else:
                failure = 0
            left = int(os.pread(descriptor, 20, 0))
            os.pwrite(descriptor, b"0", 0)
            if left:
                assert failure == 0
                return number - 1
            assert failure in FAILURES, f"allocation {number} failed, and the call said {failure}"
    finally:
        os.close(descriptor)
    raise AssertionError(f"a call of {MOST_ALLOCATIONS} allocations")


def join(bench: Bench, number: int, protocol: Protocol, family: Family) -> None:
    """Let a socket join, which may have been bound to its port by a call before that failed."""
    if bench[number].getsockname()[1] != bench.port:
        bench[number].bind((family.any, bench.port))
    if protocol is Protocol.TCP:
        bench[number].listen(128)


@each_protocol
@each_family
def test_group_that_cannot_be_made(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A socket that cannot have a group (`reuseport_alloc`) is not bound, or does not listen; it can be bound later."""
    number = bench.open(protocol, family, bind=False)
    assert each_time_there_is_no_memory(lambda: join(bench, number, protocol, family)) >= 1
    assert bench.send_and_find(bench.packet(0, protocol, family)) == number


@each_family
def test_group_of_another_that_cannot_be_made(bench: Bench, family: Family) -> None:
    """A listener that got the option late has no group; whoever joins it makes one for it, or does not listen.

    `reuseport_add_sock`; of UDP sockets only those are joined that have one.
    """
    late = bench.open(Protocol.TCP, family, reuseport=False)
    bench.set_option(late, socket.SO_REUSEPORT, 1)
    number = bench.open(Protocol.TCP, family, bind=False)
    assert each_time_there_is_no_memory(lambda: join(bench, number, Protocol.TCP, family)) >= 1
    assert set(bench.send_and_find_each(bench.packets(40, 0, Protocol.TCP, family))) == {late, number}


@requires("select_or_migrate")
def test_number_of_a_group_that_cannot_be_stored(bench: Bench, load_for_test: LoadProgram) -> None:
    """A group whose number cannot be stored (`ida_alloc`) is not made, for a new member nor for one that returns.

    Small numbers are stored in place. Beyond them, of 1,024 groups at least one needs memory for its number, too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    usual, last = (stopped_listener(bench, load_for_test) for _ in range(2))
    enough = min(memory_of_a_group(bench) for _ in range(2))
    with memory_left(enough):
        usual.listen(8)
    for _ in range(1100):
        made = unbound(bench)
        if joins(made, enough):
            continue
        with memory_left(enough), refused(errno.ENOMEM):
            last.listen(8)
        last.listen(8)
        made.bind(("127.0.0.1", 0))
        return
    pytest.fail("1,100 numbers were stored in no more memory than the groups took")


def unbound(bench: Bench) -> socket.socket:
    """Return a UDP socket that is to join a group of its own."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bench.adopt(made)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def joins(made: socket.socket, size: int) -> bool:
    """Bind a UDP socket with so much memory; tell whether it got a group."""
    try:
        with memory_left(size):
            made.bind(("127.0.0.1", 0))
    except OSError as error:
        if error.errno not in FAILURES:
            raise
        return False
    return True


def memory_of_a_group(bench: Bench) -> int:
    """Return how much memory a UDP socket needs to join a group of its own, to within `STEP`."""
    made = unbound(bench)
    return next(size for size in count(STEP, STEP) if joins(made, size))


def stopped_listener(bench: Bench, load_for_test: LoadProgram) -> socket.socket:
    """Return a listener that was shut down, and has a new port already, but no memory for its new group."""
    number = bench.open(Protocol.TCP, bind=False)
    bench[number].listen(8)
    bench.attach(number, load_for_test("migrate", size=2))
    bench[number].shutdown(socket.SHUT_RDWR)
    with memory_left(BEFORE_A_GROUP), refused(errno.ENOMEM):
        bench[number].listen(8)
    return bench[number]


@each_protocol
def test_program_for_a_group_that_cannot_be_made(bench: Bench, protocol: Protocol) -> None:
    """Attaching to a socket that is not bound yet makes its group, or fails and leaves the program to its owner."""
    number = bench.open(protocol, bind=False)
    program = load_instructions("socket_filter", bpf.move(bpf.R0, 0) + bpf.leave())
    try:
        attach = partial(bench.set_option, number, SO_ATTACH_REUSEPORT_EBPF, program)
        assert each_time_there_is_no_memory(attach) >= 1
    finally:
        os.close(program)
    bench.bind(number)
    assert bench.send_and_find(bench.packet(0, protocol)) == number


@each_protocol
@each_family
def test_group_that_cannot_grow(bench: Bench, protocol: Protocol, family: Family) -> None:
    """The member for which there is no place (`reuseport_grow`) does not join, and the others stay what they were."""
    members = bench.group(INITIAL_SIZE, protocol, family)
    more = bench.open(protocol, family, bind=False)
    assert each_time_there_is_no_memory(lambda: join(bench, more, protocol, family)) >= 1
    found = set(bench.send_and_find_each(bench.packets(400, 0, protocol, family)))
    assert found <= {*members, more}
    assert len(found) > INITIAL_SIZE / 2


@requires("select_or_migrate")
@each_family
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "full"])
def test_listener_that_cannot_come_back(bench: Bench, load_for_test: LoadProgram, family: Family, alone: bool) -> None:
    """A listener that was shut down, and for whose return there is no memory, may return later (`reuseport_resurrect`).

    Alone on another port it needs a new group; beside a full group, that one has to grow.
    """
    listener = bench.open(Protocol.TCP, family, bind=False)
    bench[listener].listen(8)  # on a port of the kernel's choice, which it gives up again
    bench.attach(listener, load_for_test("migrate", size=2))
    port = bench[listener].getsockname()[1]
    bench[listener].shutdown(socket.SHUT_RDWR)
    if not alone:
        bench.port = port
        bench.group(INITIAL_SIZE, Protocol.TCP, family)
        bench[listener].bind((family.any, port))
    assert each_time_there_is_no_memory(lambda: bench[listener].listen(8)) >= 1


@requires("select_or_migrate", "migrating_sk")
@each_family
def test_connection_that_cannot_migrate(bench: Bench, load_for_test: LoadProgram, family: Family) -> None:
    """A connection whose program needs a packet that cannot be made (`reuseport_migrate_sock`) is not migrated."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/fail-nth")
    program = load_for_test("migrate", size=2)
    failed = set()
    for number in count(1):
        members = bench.group(2, Protocol.TCP, family)
        bench.attach(members[0], program)
        bench.fill(program.inner, members)
        program.state = 1
        packet = bench.packet(0, Protocol.TCP, family)
        assert bench.send_ack(packet, bench.send_syn(packet)) == []
        before = counter("TcpExtTCPMigrateReqFailure")
        descriptor = os.open(path, os.O_RDWR)
        os.pwrite(descriptor, str(number).encode(), 0)
        bench[members[0]].close()
        left = int(os.pread(descriptor, 20, 0))
        os.pwrite(descriptor, b"0", 0)
        os.close(descriptor)
        failed.add(counter("TcpExtTCPMigrateReqFailure") - before)
        bench.close()
        if left:
            break
    assert failed == {0, 1}, "in some place the migration failed, and without a failure it did not"


def test_map_that_is_larger_than_the_memory() -> None:
    """A sockarray for which there is no memory is not made (`reuseport_array_alloc`)."""
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    entries = 2 * total * 1024 // 8
    with pytest.raises(OSError) as refusal:  # noqa: PT011
        create_map(InnerMap.SOCKARRAY.value, max_entries=min(entries, 0xFFFFFFFF))
    assert refusal.value.errno == errno.ENOMEM

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier allows a program of type SK_REUSEPORT, on every kernel: each row is a few instructions long.

Neighbours in the table differ by one number, so that what is refused is refused for the reason that the row names.
"""

from __future__ import annotations

import errno
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.cases import ledger, promise, requires
from harness.kernel.features import present
from harness.kernel.refusal import refused
from harness.loader import instructions as bpf
from harness.loader.bindings import BpfError
from harness.loader.load import load_instructions
from harness.loader.maps import create_map
from harness.model.layout import InnerMap
from harness.model.uapi import BPF_SK_REUSEPORT_SELECT_OR_MIGRATE
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.cases import LoadProgram, Wire


DATA, DATA_END, LEN, ETH_PROTOCOL, IP_PROTOCOL, BIND_INANY, HASH, SK, MIGRATING_SK = 0, 8, 16, 20, 24, 28, 32, 40, 48
"""Offsets in struct sk_reuseport_md (include/uapi/linux/bpf.h)."""

END = 56
FAMILY, PROTOCOL = 4, 12
"""Offsets in struct bpf_sock. A program may read both of `sk`, and of `migrating_sk` the family alone."""

SKB_SK = 168  # in struct __sk_buff
LOOKUP, UPDATE, DELETE = 1, 2, 3
GET_PRANDOM, SKB_STORE_BYTES, REDIRECT, LOAD_BYTES, LOAD_BYTES_RELATIVE = 7, 9, 23, 26, 68
KTIME_GET_COARSE_NS = 160
"""enum bpf_func_id (include/uapi/linux/bpf.h)."""


@dataclass(frozen=True)
class Row:
    """A program: its name, its instructions, and whether the verifier accepts it."""

    name: str
    program: bytes
    accepted: bool
    requires: str = ""
    """The feature without which the verifier refuses it."""


def read(offset: int, size: int) -> bytes:
    """Return a program that reads a field of its context and passes."""
    return bpf.load(size, bpf.R6, bpf.R1, offset) + bpf.verdict(1)


def through(pointer: int, field: int, *, checked: bool = True) -> bytes:
    """Return a program that reads a field of a socket of its context, unless the pointer is NULL, and passes."""
    check = bpf.skip_if_equal(bpf.R6, 0, 1) if checked else b""
    return bpf.load(8, bpf.R6, bpf.R1, pointer) + check + bpf.load(4, bpf.R6, bpf.R6, field) + bpf.verdict(1)


def write(offset: int, size: int) -> bytes:
    """Return a program that writes a field of its context and passes."""
    return bpf.move(bpf.R6, 1) + bpf.store_register(size, bpf.R1, bpf.R6, offset) + bpf.verdict(1)


def changed(atomic: Callable[[int, int, int], bytes], base: int, offset: int) -> bytes:
    """Return a program that changes 8 bytes of its context or its stack by an atomic instruction, and passes."""
    return bpf.store_double(bpf.R10, -8, 0) + bpf.move(bpf.R6, 1) + atomic(base, bpf.R6, offset) + bpf.verdict(1)


def data(at: int, *, checked: int, store: bool = False) -> bytes:
    """Return a program that touches a byte of the packet after checking that so many are there."""
    touch = bpf.store_register(1, bpf.R2, bpf.R4, at) if store else bpf.load(1, bpf.R4, bpf.R2, at)
    return b"".join((
        bpf.move(bpf.R4, 0),
        bpf.load(8, bpf.R2, bpf.R1, DATA),
        bpf.load(8, bpf.R3, bpf.R1, DATA_END),
        bpf.copy(bpf.R6, bpf.R2),
        bpf.add(bpf.R6, checked),
        bpf.skip_if_greater(bpf.R6, bpf.R3, 1),
        touch,
        bpf.verdict(1),
    ))  # fmt: skip


def bytes_helper(function: int, length: int) -> bytes:
    """Return a program that reads so many bytes of the packet onto its stack."""
    return b"".join((
        bpf.store_double(bpf.R10, -8, 0),
        bpf.move(bpf.R2, 0),
        bpf.copy(bpf.R3, bpf.R10),
        bpf.add(bpf.R3, -8),
        bpf.move(bpf.R4, length),
        bpf.move(bpf.R5, 1),
        bpf.call(function),
        bpf.verdict(1),
    ))  # fmt: skip


FIELDS = {"len": LEN, "eth_protocol": ETH_PROTOCOL, "ip_protocol": IP_PROTOCOL, "bind_inany": BIND_INANY, "hash": HASH}
WIDTHS = {"len": {1, 2, 4}, "eth_protocol": {2, 4}, "ip_protocol": {1, 2, 4}, "bind_inany": {1, 2, 4}, "hash": {4}}
"""sk_reuseport_is_valid_access (net/core/filter.c): hash as a whole, eth_protocol not by the byte."""

ROWS = [
    *(
        Row(f"read-{size}-bytes-of-{name}", read(offset, size), size in WIDTHS[name])
        for name, offset in FIELDS.items()
        for size in (1, 2, 4, 8)
    ),
    *(Row(f"read-{size}-bytes-of-data", read(DATA, size), size == 8) for size in (1, 2, 4, 8)),
    *(Row(f"read-{size}-bytes-of-data_end", read(DATA_END, size), size == 8) for size in (4, 8)),
    *(Row(f"read-{size}-bytes-of-sk", read(SK, size), size == 8, "get_socket_cookie") for size in (4, 8)),
    *(Row(f"read-{size}-bytes-of-migrating", read(MIGRATING_SK, size), size == 8, "migrating_sk") for size in (4, 8)),
    Row("read-protocol-of-sk", through(SK, PROTOCOL), True, "get_socket_cookie"),
    Row("read-family-of-migrating", through(MIGRATING_SK, FAMILY), True, "migrating_sk"),
    Row("read-family-of-migrating-unchecked", through(MIGRATING_SK, FAMILY, checked=False), False),
    Row("read-protocol-of-migrating", through(MIGRATING_SK, PROTOCOL), False),
    Row("read-second-byte-of-len", read(LEN + 1, 1), True),
    Row("read-high-half-of-len", read(LEN + 2, 2), True),
    Row("read-high-half-of-hash", read(HASH + 2, 2), False),
    Row("read-across-two-bytes-unaligned", read(LEN + 1, 2), False),
    Row("read-behind-hash", read(HASH + 4, 4), False),
    Row("read-behind-the-context", read(END, 4), False),
    Row("read-before-the-context", read(-4, 4), False),
    *(Row(f"write-{name}", write(offset, 4), False) for name, offset in FIELDS.items()),
    Row("write-data", write(DATA, 8), False),
    *(
        Row(f"add-atomically-to-{name}", changed(bpf.atomic_add, bpf.R1, offset), False)
        for name, offset in (("data", DATA), ("sk", SK), ("migrating", MIGRATING_SK))
    ),
    Row("add-atomically-to-the-stack", changed(bpf.atomic_add, bpf.R10, -8), True),
    Row("store-release-to-sk", changed(bpf.store_release, bpf.R1, SK), False),
    Row("store-release-to-the-stack", changed(bpf.store_release, bpf.R10, -8), True, "store_release"),
    Row("data-within-what-was-checked", data(7, checked=8), True),
    Row("data-behind-what-was-checked", data(8, checked=8), False),
    Row("data-never-checked", data(0, checked=0), False),
    Row("data-written", data(7, checked=8, store=True), False),
    Row("no-verdict", bpf.leave(), False),
    *(Row(f"return-{value}", bpf.verdict(value), True) for value in (0, 1, 2, -1)),
    Row("load-one-byte", bytes_helper(LOAD_BYTES, 1), True),
    Row("load-all-of-the-buffer", bytes_helper(LOAD_BYTES, 8), True),
    Row("load-more-than-the-buffer", bytes_helper(LOAD_BYTES, 9), False),
    Row("load-nothing", bytes_helper(LOAD_BYTES, 0), False),
    Row("load-relative", bytes_helper(LOAD_BYTES_RELATIVE, 8), True),
    Row("load-relative-nothing", bytes_helper(LOAD_BYTES_RELATIVE, 0), False),
    Row("store-bytes-in-the-packet", bytes_helper(SKB_STORE_BYTES, 8), False),
    Row("redirect", bpf.move(bpf.R1, 1) + bpf.move(bpf.R2, 0) + bpf.call(REDIRECT) + bpf.verdict(1), False),
    Row("random-number", bpf.call(GET_PRANDOM) + bpf.verdict(1), True),
    Row("coarse-time", bpf.call(KTIME_GET_COARSE_NS) + bpf.verdict(1), True, "coarse_time"),
]  # fmt: skip


def accepts(program: bytes, *, kind: str = "sk_reuseport", attach_type: int = 0) -> bool:
    """Load a program; tell whether the verifier accepts it. Any other refusal than the verifier's is raised."""
    try:
        os.close(load_instructions(kind, program, attach_type=attach_type))
    except BpfError as error:
        if error.errno not in {errno.EACCES, errno.EINVAL}:
            raise
        return False
    return True


@promise("verifier.instructions")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_few_instructions(row: Row, wire: Wire) -> None:
    """The verifier accepts the accesses and helpers that the type allows, and refuses their neighbours."""
    able = not row.requires or present(row.requires)
    assert accepts(row.program) == (row.accepted and able)


SELECTABLE = {"sockarray": "", "sockmap": "select_from_sockmap", "sockhash": "select_from_sockmap"}


@promise("verifier.map-type")
@pytest.mark.parametrize("kind", ["sockarray", "sockmap", "sockhash", "array", "hash"])
def test_map_for_the_selection(wire: Wire, kind: str) -> None:
    """bpf_sk_select_reuseport() takes a sockarray alone, and from Linux 5.7 on a sockmap or a sockhash too."""
    feature = SELECTABLE.get(kind)
    with closing(create_map(kind, max_entries=1)) as made:
        program = bpf.select(made.fd, 0) + bpf.verdict(1)
        assert accepts(program) == (feature is not None and (not feature or present(feature)))


@promise("verifier.map-access")
@pytest.mark.parametrize("function", [LOOKUP, UPDATE, DELETE], ids=["lookup", "update", "delete"])
@pytest.mark.parametrize("kind", ["sockarray", "array"])
def test_map_of_sockets_is_for_selecting_alone(wire: Wire, kind: str, function: int) -> None:
    """A program may neither look into a sockarray nor change it.

    The same calls on an array are accepted; its delete is refused each time it runs.
    """
    with closing(create_map(kind, max_entries=1)) as made:
        program = b"".join((
            bpf.store_word(bpf.R10, -4, 0),
            bpf.store_double(bpf.R10, -16, 0),
            bpf.map_of(bpf.R1, made.fd),
            bpf.copy(bpf.R2, bpf.R10),
            bpf.add(bpf.R2, -4),
            bpf.copy(bpf.R3, bpf.R10),
            bpf.add(bpf.R3, -16),
            bpf.move(bpf.R4, 0),
            bpf.call(function),
            bpf.verdict(1),
        ))  # fmt: skip
        assert accepts(program) == (kind == "array")


def changes_sockmap(map_fd: int, function: int, *, socket_at: int) -> bytes:
    """Return a program that puts the socket which its context names into slot 0 of a sockmap, or empties that."""
    change = bpf.change_map(map_fd, function)
    return b"".join((
        bpf.load(8, bpf.R6, bpf.R1, socket_at),
        bpf.skip_if_equal(bpf.R6, 0, len(change) // 8),
        change,
        bpf.verdict(1),
    ))  # fmt: skip


each_change = pytest.mark.parametrize("function", [UPDATE, DELETE], ids=["update", "delete"])
each_sockmap = pytest.mark.parametrize("kind", ["sockmap", "sockhash"])


@promise("verifier.sockmap-change")
@each_change
@each_sockmap
@requires("select_from_sockmap", "get_socket_cookie")
def test_program_may_change_a_sockmap(wire: Wire, kind: str, function: int) -> None:
    """A program may put its socket into a sockmap or a sockhash, and take one out (`may_update_sockmap`)."""
    with closing(create_map(kind, max_entries=1)) as made:
        assert accepts(changes_sockmap(made.fd, function, socket_at=SK))


@promise("verifier.sockmap-change-by-filter")
@ledger("K35")
@each_change
@each_sockmap
def test_filter_may_not_change_a_sockmap(wire: Wire, kind: str, function: int) -> None:
    """A socket filter may not change a sockmap: it may run while the socket is locked (`may_update_sockmap`)."""
    with closing(create_map(kind, max_entries=1)) as made:
        assert not accepts(changes_sockmap(made.fd, function, socket_at=SKB_SK), kind="socket_filter")


@promise("verifier.flags")
@pytest.mark.parametrize("flags", [0, 1, -1])
def test_flags_of_the_selection_are_not_looked_at(wire: Wire, flags: int) -> None:
    """bpf_sk_select_reuseport() accepts any flags (ARG_ANYTHING)."""
    with closing(create_map("sockarray", max_entries=1)) as made:
        assert accepts(bpf.select(made.fd, 0, flags=flags) + bpf.verdict(1))


@promise("verifier.variants")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_loads(load_program: LoadProgram, wire: Wire, name: str) -> None:
    """Each program under bpf/ loads where the kernel has the features that it requires, and is refused elsewhere."""
    missing = [feature for feature in VARIANTS[name].requires if not present(feature)]
    if missing:
        with pytest.raises(BpfError):
            load_program(name)
        return
    with load_program(name) as program:
        assert set(VARIANTS[name].maps) <= program.maps.keys()


@promise("verifier.inner-map")
@pytest.mark.parametrize("inner_map", InnerMap)
def test_reference_takes_every_map_of_sockets(load_program: LoadProgram, wire: Wire, inner_map: InnerMap) -> None:
    """One object serves three types of inner map: the outer map's template decides."""
    if (feature := SELECTABLE[inner_map]) and not present(feature):
        with refused(errno.EINVAL):
            load_program("reference", inner_map=inner_map)
        return
    load_program("reference", inner_map=inner_map).close()


@promise("verifier.migrating")
@requires("select_or_migrate")
@pytest.mark.parametrize("row", [row for row in ROWS if row.name.startswith("return-")], ids=lambda row: row.name)
def test_migrating_programs_are_held_to_the_same(row: Row, wire: Wire) -> None:
    """A program of attach type SELECT_OR_MIGRATE may return what one of type SELECT may."""
    assert accepts(row.program, attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE) == row.accepted

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that choose by the NUMA node of the CPU that received the packet (bpf_get_numa_node_id)."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cases import each_family, each_protocol, promise
from harness.loader import instructions as bpf
from harness.loader.load import load_instructions
from harness.loader.maps import create_map

if TYPE_CHECKING:
    from harness.cases import Bench
    from harness.model.layout import Family, Protocol


GET_NUMA_NODE_ID = 42  # enum bpf_func_id
SHIFT = 1
"""Added to the node, so that the member of a machine with one node is not the one that a broken answer of 0 means."""


def node_of(cpu: int) -> int:
    """Return the NUMA node of a CPU; 0 on a kernel without NUMA, which bpf_get_numa_node_id() says too."""
    nodes = [int(path.name.removeprefix("node")) for path in Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node*")]
    return nodes[0] if nodes else 0


@promise("numa.filter")
@each_protocol
@each_family
def test_filter_returns_the_node_as_the_place(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A socket filter that returns the node of the receiving CPU chooses the member in that place of the group."""
    here = node_of(bench.wire.settings.cpu) + SHIFT
    members = bench.group(here + 2, protocol, family)
    code = bpf.call(GET_NUMA_NODE_ID) + bpf.add(bpf.R0, SHIFT) + bpf.leave()
    program = load_instructions("socket_filter", code)
    try:
        bench.attach(members[0], program)
    finally:
        os.close(program)
    assert bench.send_and_find_each(bench.packets(10, 0, protocol, family)) == [members[here]] * 10


@promise("numa.select")
@each_protocol
@each_family
def test_node_as_the_index_of_the_selection(bench: Bench, protocol: Protocol, family: Family) -> None:
    """A program may ask for the receiving CPU's node and select the slot of that number."""
    here = node_of(bench.wire.settings.cpu) + SHIFT
    members = bench.group(3, protocol, family)
    with closing(create_map("sockarray", max_entries=here + 1)) as slots:
        bench.fill(slots, [members[1]], first=here)
        code = b"".join((
            bpf.copy(bpf.R6, bpf.R1),
            bpf.call(GET_NUMA_NODE_ID),
            bpf.add(bpf.R0, SHIFT),
            bpf.copy(bpf.R1, bpf.R6),
            bpf.select_register(slots.fd, bpf.R0),
            bpf.verdict(1),
        ))  # fmt: skip
        program = load_instructions("sk_reuseport", code)
        try:
            bench.attach(members[0], program)
        finally:
            os.close(program)
        assert bench.send_and_find_each(bench.packets(10, 0, protocol, family)) == [members[1]] * 10
        bench.clear_slot(slots, here)

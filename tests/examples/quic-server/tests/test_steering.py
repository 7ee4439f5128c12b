# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the server promises of its program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.cases import Bench, OwnProgram


def test_a_connection_reaches_its_worker_from_anywhere(bench: Bench, workers: list[int]) -> None:
    """A client that changes its port keeps its worker."""
    for slot, worker in enumerate(workers):
        packets = bench.packets(10, payload=bytes([0x40, slot]) + b"data")
        assert bench.send_and_find_each(packets) == [worker] * 10


def test_new_clients_are_shared_out(bench: Bench, workers: list[int]) -> None:
    """Initial packets are left to the hash: every worker gets some."""
    assert set(bench.send_and_find_each(bench.packets(80, payload=b"\xc0" + bytes(1199)))) == set(workers)


def test_a_worker_that_is_gone_is_replaced(bench: Bench, own_program: OwnProgram, workers: list[int]) -> None:
    """The slot of a worker that crashed is given to the one that takes over."""
    bench[workers[2]].close()
    joining = bench.open()
    own_program.put(2, bench[joining].fileno())
    assert bench.send_and_find(bench.packet(payload=b"\x40\x02data")) == joining

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of what is measured, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measured import loop, reference, selection, spending, vms, ways
from .measurement import Bound, Measurement, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROWTH = Bound(at_most=1.2)

_TABLE = (
    Measurement(
        name="reference",
        says="the reference cases ÷ the kernel's own test_select_reuseport",
        unit="deliveries/s",
        ratio=(reference.HERE, reference.KERNEL),
        prepare=reference.against_the_kernels_own,
        rounds=5,
        native=Bound(at_least=10),
    ),
    Measurement(
        name="spending",
        says="CPU time of the reference cases ÷ that of their deliveries",
        unit="s",
        ratio=(spending.ALL, spending.ALL_DELIVERIES),
        prepare=spending.of_the_reference_cases,
        rounds=5,
    ),
    Measurement(
        name="strict",
        says="packets that are checked one at a time ÷ a loop in C that sends and receives each",
        unit="packets/s",
        ratio=(loop.CHECKED, loop.BARE),
        prepare=loop.strict,
        native=Bound(at_least=0.25),
        emulated=Bound(at_least=0.1),
    ),
    Measurement(
        name="batched",
        says="packets that are checked in batches ÷ a loop in C that sends and receives batches",
        unit="packets/s",
        ratio=(loop.CHECKED, loop.BARE),
        prepare=loop.batched,
        native=Bound(at_least=0.6),
    ),
    Measurement(
        name="crafting",
        says="scapy builds each datagram ÷ bytes are patched into one",
        unit="µs",
        ratio=(ways.PLAIN, ways.FAST),
        prepare=ways.crafting,
        native=Bound(at_least=10),
        emulated=Bound(at_least=10),
    ),
    Measurement(
        name="keeping",
        says="a group is made anew ÷ it is kept and put back",
        unit="ms",
        ratio=(ways.PLAIN, ways.FAST),
        prepare=ways.keeping,
        native=Bound(at_least=10),
        emulated=Bound(at_least=10),
    ),
    *(
        Measurement(
            name=f"run-time-{way.name}",
            says=f"{way.says}: run time with 10,000 members ÷ with one",
            unit="ns",
            ratio=selection.GROWTH,
            prepare=selection.PREPARE_RUN_TIME[way.name],
            native=_GROWTH,
            emulated=_GROWTH,
        )
        for way in selection.WAYS
        if way.name in selection.PREPARE_RUN_TIME
    ),
    *(
        Measurement(
            name=f"packets-{way.name}",
            says=f"{way.says}: a packet with 10,000 members ÷ with one",
            unit="µs",
            ratio=selection.GROWTH,
            prepare=selection.PREPARE_PACKETS[way.name],
            native=None if way.walks else _GROWTH,
            emulated=None if way.walks else _GROWTH,
        )
        for way in selection.WAYS
    ),
    Measurement(
        name="first-case",
        says="the first case in a VM, from the start of the command ÷ a bare vng -- touch FILE",
        unit="s",
        ratio=(vms.FIRST_CASE, vms.BARE_BOOT),
        prepare=vms.first_case,
        place=Place.OUTSIDE,
        rounds=3,
        native=Bound(at_most=1.3),
        emulated=Bound(at_most=1.3),
    ),
    Measurement(
        name="matrix",
        says="the reference cases on four kernels at once ÷ on each alone, on one VM",
        unit="s",
        ratio=(vms.TOGETHER, vms.ALONE),
        prepare=vms.matrix,
        place=Place.OUTSIDE,
        rounds=1,
        native=Bound(at_most=0.65),
        emulated=Bound(at_most=0.65),
    ),
    Measurement(
        name="shared",
        says="deliveries ÷ seconds of the reference cases, on as many VMs of one kernel as fit",
        unit="",
        ratio=(vms.DELIVERIES, vms.SECONDS),
        prepare=vms.shared,
        place=Place.OUTSIDE,
        rounds=3,
        emulated=Bound(at_least=900),
    ),
    Measurement(
        name="memory",
        says="memory of a VM's QEMU ÷ the memory that the guest may use",
        unit="MiB",
        ratio=(vms.MEMORY, vms.GUEST_MEMORY),
        prepare=vms.memory,
        place=Place.OUTSIDE,
        rounds=1,
    ),
)

MEASUREMENTS: Mapping[str, Measurement] = {measurement.name: measurement for measurement in _TABLE}
"""The measurements by name."""

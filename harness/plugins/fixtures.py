# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The fixtures that cases take: a wire, programs, groups, the bench, and what delivers packets.

harness/group/protocols.py has the signatures of those that are functions.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from harness.interface.keys import CPU_OF_PROCESS, OBSERVED, PARTS
from harness.model.layout import GROUP_PORT, GROUP_SIZE, InnerMap
from harness.model.variants import VARIANTS
from harness.plugins.objects import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.group.bench import Bench
    from harness.group.delivery import Delivery
    from harness.group.protocols import (
        AttachReference,
        DeliverTo,
        LoadProgram,
        MakeCommand,
        MakeGroup,
        RecordProperty,
    )
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.layout import Shape
    from harness.wire.veth import Wire


@pytest.fixture(scope="session")
def wire(pytestconfig: pytest.Config) -> Iterator[Wire]:
    """Return the veth pair; the session's process moves to the server's end of it."""
    from harness.loader.maps import lift_memory_limit  # noqa: PLC0415
    from harness.wire.veth import Wire  # noqa: PLC0415  # pyroute2 and scapy: seconds under emulation, for cases alone

    lift_memory_limit()
    made = Wire(cpu=getattr(pytestconfig, "workerinput", {}).get(CPU_OF_PROCESS))
    yield made
    made.close()


@pytest.fixture(scope="session")
def load_program(request: pytest.FixtureRequest) -> LoadProgram:
    """Return the function that loads a variant by its name; the caller closes it."""
    from harness.loader.program import Program  # noqa: PLC0415

    # Not by the fixture: pytest looks each up again for every case.
    objects = compiled(request.config)

    def load(name: str, *, inner_map: InnerMap = InnerMap.SOCKARRAY, size: int = GROUP_SIZE) -> Program:
        return Program(VARIANTS[name], objects.get(name), inner_map=inner_map, size=size)

    return load


@pytest.fixture
def load_for_test(load_program: LoadProgram) -> Iterator[LoadProgram]:
    """Return the function that loads a variant for as long as the case takes, its deliveries' end included."""
    with ExitStack() as undo:

        def load(name: str, *, inner_map: InnerMap = InnerMap.SOCKARRAY, size: int = GROUP_SIZE) -> Program:
            return undo.enter_context(load_program(name, inner_map=inner_map, size=size))

        yield load


@pytest.fixture(scope="session")
def kept_group(shape: Shape, variant: str, wire: Wire, load_program: LoadProgram) -> Iterator[ReuseportGroup]:
    """Return the group of the shape, which lives as long as the cases that use it; cases take `group`."""
    from harness.group.reuseport_group import ReuseportGroup  # noqa: PLC0415

    with load_program(variant, inner_map=shape.inner_map) as program:
        made = ReuseportGroup(shape, program, size=GROUP_SIZE, settings=wire.settings, names=wire.names)
        yield made
        try:
            # Cases that touch no slot do not read them back: a slot that emptied by itself is found here at the latest.
            made.check_slots()
        finally:
            made.close()


@pytest.fixture
def group(kept_group: ReuseportGroup) -> Iterator[ReuseportGroup]:
    """Return a group of 32 members, member N in slot N; what a case changes is put back after it."""
    yield kept_group
    kept_group.restore()


@pytest.fixture
def make_group(wire: Wire, load_for_test: LoadProgram) -> Iterator[MakeGroup]:
    """Return the function that makes another group, on a port of its own; it is closed after the case.

    `program` is a variant's name, or a loaded Program that several groups share.
    """
    from harness.group.reuseport_group import ReuseportGroup  # noqa: PLC0415

    with ExitStack() as undo:
        ports = itertools.count(GROUP_PORT + 1)
        undo.callback(wire.settings.restore)
        undo.callback(wire.read_replies)  # to what ends with the groups

        def make(
            shape: Shape, *, program: str | Program = "reference", size: int = GROUP_SIZE, slots: int | None = None
        ) -> ReuseportGroup:
            if isinstance(program, str):
                program = load_for_test(program, inner_map=shape.inner_map, size=slots or size)
            made = ReuseportGroup(shape, program, size=size, settings=wire.settings, port=next(ports), names=wire.names)
            undo.callback(made.close)
            return made

        yield make


@pytest.fixture
def bench(wire: Wire) -> Iterator[Bench]:
    """Return what opens sockets by hand; they are closed after the case."""
    from harness.group.bench import Bench  # noqa: PLC0415

    made = Bench(wire)
    yield made
    made.close()
    wire.read_replies()  # to the resets
    wire.settings.restore()


@pytest.fixture
def attach_reference(bench: Bench, load_for_test: LoadProgram) -> AttachReference:
    """Return the function that attaches the reference program to a group of the bench, member N in slot N."""

    def attach(
        members: Sequence[int], *, slots: int | None = None, inner_map: InnerMap = InnerMap.SOCKARRAY
    ) -> Program:
        program = load_for_test("reference", inner_map=inner_map, size=slots or len(members))
        bench.attach(members[0], program)
        bench.fill(program.inner, members)
        return program

    return attach


@pytest.fixture
def delivery_to(
    wire: Wire,
    load_for_test: LoadProgram,  # what a program counts is read to the end
    record_property: RecordProperty,
) -> Iterator[DeliverTo]:
    """Return the function that makes a `deliver` for a group; further groups given must stay empty."""
    from harness.group.delivery import Delivery  # noqa: PLC0415

    made: list[Delivery] = []

    def make(group: ReuseportGroup, *bystanders: ReuseportGroup) -> Delivery:
        made.append(Delivery(wire, group, *bystanders))
        return made[-1]

    yield make
    for delivery in made:
        delivery.reset_connections()
    record_property(OBSERVED, [words for delivery in made for words in delivery.observed])
    if parts := [asdict(part) for delivery in made for part in delivery.parts]:
        record_property(PARTS, parts)


@pytest.fixture
def deliver(group: ReuseportGroup, delivery_to: DeliverTo) -> Delivery:
    """Return the function that sends a packet and checks all that came of it."""
    return delivery_to(group)


@pytest.fixture
def command(deliver: Delivery) -> MakeCommand:
    """Return the function that makes a packet whose payload asks for a member."""
    return deliver.command

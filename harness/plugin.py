# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Give cases their fixtures, and compile the programs on the host before any kernel needs them."""

from __future__ import annotations

import itertools
import resource
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.interface.keys import OBJECTS, OBSERVED
from harness.kernel.features import conceivable
from harness.model.layout import GROUP_PORT, GROUP_SIZE, Bind, Family, InnerMap, Protocol, Shape
from harness.model.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.group.bench import Bench
    from harness.group.delivery import Delivery
    from harness.group.reuseport_group import ReuseportGroup
    from harness.loader.program import Program
    from harness.model.packets import Packet
    from harness.wire.veth import Wire

# Here and not in conftest.py, which pytest does not read when cases lie outside this project.
pytest_plugins = [f"harness.plugins.{name}" for name in ("gate", "own_program", "disruption", "witness")]

_OBJECTS = pytest.StashKey[dict[str, Path]]()


def shapes() -> list[Shape]:
    """Return every shape that a group of the reference scenario has and a kernel of this release can have."""
    every = (
        Shape(protocol=protocol, family=family, bind=bind, inner_map=inner_map)
        for protocol, family, bind, inner_map in itertools.product(Protocol, Family, Bind, InnerMap)
    )
    return [shape for shape in every if all(map(conceivable, required_features(shape)))]


def required_features(shape: Shape) -> tuple[str, ...]:
    """Return the names of the features that a group of this shape stands on."""
    if shape.inner_map is InnerMap.SOCKARRAY:
        return ()
    return ("select_from_sockmap", *(("udp_in_sockmap",) if shape.protocol is Protocol.UDP else ()))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `tox -e host` needs."""
    parser.getgroup("reuseport").addoption(
        "--where-possible",
        action="store_true",
        help="run the cases if this process may load BPF programs; if not, say why and exit 0",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers."""
    config.addinivalue_line("markers", "shapes(**fields): the shapes of group that a case is for")
    config.addinivalue_line("markers", "programs(*names): the variants that a case is for; `reference` unless said")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the compiled programs to a worker: inside a VM there is no clang to run."""
    node.workerinput[OBJECTS] = {name: str(path) for name, path in _objects(node.config).items()}


def _objects(config: pytest.Config) -> dict[str, Path]:
    """Return the compiled programs, by name; compile them at the first call, where no controller did."""
    if _OBJECTS not in config.stash:
        given = getattr(config, "workerinput", {}).get(OBJECTS)
        if given is None:
            # Imported here: compiling is the controller's work, and a worker under emulation counts milliseconds.
            from harness.loader.compiler import CompileError, compile_variants  # noqa: PLC0415
            from harness.plugins.own_program import replacements  # noqa: PLC0415

            try:
                found = compile_variants() | replacements(config)
            except CompileError as error:
                raise pytest.UsageError(str(error)) from error
            config.stash[_OBJECTS] = found
        else:
            config.stash[_OBJECTS] = {name: Path(path) for name, path in given.items()}
    return config.stash[_OBJECTS]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """End the run, saying why once, where no case could do anything but fail: for want of rights, or of programs."""
    if session.config.option.collectonly or not any("wire" in _fixtures_of(item) for item in session.items):
        return
    from harness.kernel.preflight import missing_requirement  # noqa: PLC0415

    if reason := missing_requirement():
        pytest.exit(reason, returncode=0 if session.config.option.where_possible else pytest.ExitCode.USAGE_ERROR)
    _objects(session.config)


def _fixtures_of(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate a case for each shape that its `shapes` marks admit."""
    if "variant" in metafunc.fixturenames:
        names = [name for mark in metafunc.definition.iter_markers("programs") for name in mark.args]
        if names:
            gated = [pytest.param(name, marks=pytest.mark.requires(*VARIANTS[name].requires)) for name in names]
            metafunc.parametrize("variant", gated, ids=names, scope="session", indirect=True)
    if "shape" not in metafunc.fixturenames:
        return
    wanted = shapes()
    for mark in metafunc.definition.iter_markers("shapes"):
        for name, value in mark.kwargs.items():
            allowed = value if isinstance(value, (tuple, set, frozenset)) else (value,)
            wanted = [shape for shape in wanted if getattr(shape, name) in allowed]
    gated = [pytest.param(shape, marks=pytest.mark.requires(*required_features(shape))) for shape in wanted]
    metafunc.parametrize("shape", gated, ids=[str(shape) for shape in wanted], scope="session", indirect=True)


@pytest.fixture(scope="session")
def shape(request: pytest.FixtureRequest) -> Shape:
    """Return what the group is made of."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def objects(pytestconfig: pytest.Config) -> dict[str, Path]:
    """Return the compiled programs by name."""
    return _objects(pytestconfig)


@pytest.fixture(scope="session")
def wire() -> Iterator[Wire]:
    """Return the veth pair; the session's process moves to the server's end of it."""
    from harness.wire.veth import Wire  # noqa: PLC0415  # pyroute2 and scapy: seconds under emulation, for cases alone

    _raise_memory_lock_limit()
    made = Wire()
    yield made
    made.close()


def _raise_memory_lock_limit() -> None:
    """Lift RLIMIT_MEMLOCK, which BPF maps are charged to until 5.11: 64 KiB even for root."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        # A container without CAP_SYS_RESOURCE: its kernel is newer, or the maps' creation will say EPERM.
        _, highest = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (highest, highest))


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest) -> str:
    """Return the name of the program that the kept group has; cases choose it with the `program` mark."""
    return getattr(request, "param", "reference")


@pytest.fixture(scope="session")
def load_program(request: pytest.FixtureRequest) -> Callable[..., Program]:
    """Return the function that loads a variant by its name; the caller closes it."""
    from harness.loader.program import Program  # noqa: PLC0415

    # Not by the fixture: pytest looks each up again for every case.
    objects = _objects(request.config)

    def load_program(name: str, *, inner_map: InnerMap = InnerMap.SOCKARRAY, size: int = GROUP_SIZE) -> Program:
        return Program(VARIANTS[name], objects.get(name), inner_map=inner_map, size=size)

    return load_program


@pytest.fixture(scope="session")
def kept_group(
    shape: Shape, variant: str, wire: Wire, load_program: Callable[..., Program]
) -> Iterator[ReuseportGroup]:
    """Return the group of the shape, which lives as long as the cases that use it; cases take `group`."""
    from harness.group.reuseport_group import ReuseportGroup  # noqa: PLC0415

    with load_program(variant, inner_map=shape.inner_map) as program:
        made = ReuseportGroup(shape, program, size=GROUP_SIZE, settings=wire.settings)
        yield made
        made.close()


@pytest.fixture
def group(kept_group: ReuseportGroup) -> Iterator[ReuseportGroup]:
    """Return a group of 32 members, member N in slot N; what a case changes is put back after it."""
    yield kept_group
    kept_group.restore()


@pytest.fixture
def load_for_test(load_program: Callable[..., Program]) -> Iterator[Callable[..., Program]]:
    """Return the function that loads a variant for as long as the case takes, its deliveries' end included."""
    with ExitStack() as undo:

        def keep(name: str, *, inner_map: InnerMap = InnerMap.SOCKARRAY, size: int = GROUP_SIZE) -> Program:
            return undo.enter_context(load_program(name, inner_map=inner_map, size=size))

        yield keep


@pytest.fixture
def make_group(wire: Wire, load_for_test: Callable[..., Program]) -> Iterator[Callable[..., ReuseportGroup]]:
    """Return the function that makes another group, on a port of its own; it is closed after the case.

    `program` is a variant's name, or a loaded Program that several groups share.
    """
    from harness.group.reuseport_group import ReuseportGroup  # noqa: PLC0415

    with ExitStack() as undo:
        ports = itertools.count(GROUP_PORT + 1)
        undo.callback(wire.settings.restore)
        undo.callback(wire.send, ())  # reads away what the groups' ends provoke

        def make(
            shape: Shape, *, program: str | Program = "reference", size: int = GROUP_SIZE, slots: int | None = None
        ) -> ReuseportGroup:
            """Make a group of `size` members over an inner map of `slots` (as many, unless said otherwise)."""
            if isinstance(program, str):
                program = load_for_test(program, inner_map=shape.inner_map, size=slots or size)
            made = ReuseportGroup(shape, program, size=size, settings=wire.settings, port=next(ports))
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
    wire.send([])  # whatever the resets provoked is read
    wire.settings.restore()


@pytest.fixture
def delivery_to(
    wire: Wire,
    load_for_test: Callable[..., Program],  # what a program counts is read to the end
    record_property: Callable[[str, object], None],
) -> Iterator[Callable[..., Delivery]]:
    """Return the function that makes a `deliver` for a group; further groups given must stay empty."""
    from harness.group.delivery import Delivery  # noqa: PLC0415

    made: list[Delivery] = []

    def deliver_to(group: ReuseportGroup, *bystanders: ReuseportGroup) -> Delivery:
        made.append(Delivery(wire, group, *bystanders))
        return made[-1]

    yield deliver_to
    for delivery in made:
        delivery.finish()
    record_property(OBSERVED, [words for delivery in made for words in delivery.observed])


@pytest.fixture
def deliver(group: ReuseportGroup, delivery_to: Callable[..., Delivery]) -> Delivery:
    """Return the function that sends a packet and checks all that came of it."""
    return delivery_to(group)


@pytest.fixture
def command(deliver: Delivery) -> Callable[..., Packet]:
    """Return the function that makes a packet whose payload asks for a member."""
    return deliver.command

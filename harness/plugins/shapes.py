# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a case on a group once for each shape that its `shapes` marks admit, and each program that `programs` names."""

from __future__ import annotations

import itertools

import pytest

from harness.kernel.features import conceivable
from harness.model.layout import Bind, Family, InnerMap, Protocol, Shape
from harness.model.variants import VARIANTS


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers."""
    config.addinivalue_line("markers", "shapes(**fields): the shapes of group that a case is for")
    config.addinivalue_line("markers", "programs(*names): the variants that a case is for; `reference` unless said")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate a case for each program and shape that its marks admit."""
    if "variant" in metafunc.fixturenames:
        names = [name for mark in metafunc.definition.iter_markers("programs") for name in mark.args]
        if names:
            gated = [pytest.param(name, marks=pytest.mark.requires(*VARIANTS[name].requires)) for name in names]
            metafunc.parametrize("variant", gated, ids=names, scope="session", indirect=True)
    if "shape" not in metafunc.fixturenames:
        return
    wanted = every_shape()
    for mark in metafunc.definition.iter_markers("shapes"):
        for name, value in mark.kwargs.items():
            allowed = value if isinstance(value, (tuple, set, frozenset)) else (value,)
            wanted = [shape for shape in wanted if getattr(shape, name) in allowed]
    gated = [pytest.param(shape, marks=pytest.mark.requires(*required_features(shape))) for shape in wanted]
    metafunc.parametrize("shape", gated, ids=[str(shape) for shape in wanted], scope="session", indirect=True)


def every_shape() -> list[Shape]:
    """Return every shape that a group of the reference scenario has and a kernel of this release can have."""
    every = (
        Shape(protocol=protocol, family=family, bind=bind, inner_map=inner_map)
        for protocol, family, bind, inner_map in itertools.product(Protocol, Family, Bind, InnerMap)
    )
    return [shape for shape in every if all(map(conceivable, required_features(shape)))]


def required_features(shape: Shape) -> tuple[str, ...]:
    """Return the names of the features that a group of this shape needs."""
    if shape.inner_map is InnerMap.SOCKARRAY:
        return ()
    return ("select_from_sockmap", *(("udp_in_sockmap",) if shape.protocol is Protocol.UDP else ()))


@pytest.fixture(scope="session")
def shape(request: pytest.FixtureRequest) -> Shape:
    """Return what the group is made of."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest) -> str:
    """Return the name of the program that the kept group has; cases choose it with the `programs` mark."""
    return getattr(request, "param", "reference")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have the Python in a guest become a worker of pytest-xdist, without importing pytest on this side."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import execnet
from execnet.gateway_base import Popen2IO, get_execmodel
from execnet.gateway_bootstrap import bootstrap

if TYPE_CHECKING:
    import socket


def with_plugins(names: list[str]) -> dict[str, str]:
    """Return what makes pytest load these plugins and not look for others.

    Looking means to read the entry points of every distribution that is installed.
    """
    return {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(names)}


def xdist_worker() -> str:
    """Return the source of xdist's worker, without importing it: that would import all of pytest."""
    package = importlib.util.find_spec("xdist")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("remote.py").read_text()


def open_gateway(port: socket.socket, *, name: str) -> execnet.Gateway:
    """Return execnet's gateway to the guest's Python on `port`."""

    class Port(Popen2IO):
        """What execnet reads and writes: it has no process of its own to wait for."""

        def wait(self) -> int | None:
            return None

        def kill(self) -> None:
            pass

    port_io = Port(port.makefile("wb"), port.makefile("rb"), get_execmodel("thread"))
    spec = execnet.XSpec(f"popen//id={name}//execmodel=main_thread_only")
    gateway = bootstrap(port_io, spec)
    gateway.spec = spec
    execnet.Group()._register(gateway)
    return gateway

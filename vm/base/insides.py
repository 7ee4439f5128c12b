# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the host uses of execnet and pytest-xdist beyond their public interfaces, and the public way where it is gone.

Read in execnet 2.1.2 and pytest-xdist 3.8.0.

execnet opens gateways to processes that it starts itself. Here it has to open one over a socket: to the Python in a VM,
and to one on another machine through an ssh process, whose error messages this project reads and which Ctrl-C must not
reach. `Popen2IO`, `bootstrap` and `Group._register` do that. Without them execnet starts `vm.base.pump`, a process that
passes all bytes on to the socket.

A relay on another machine is started through the gateway to that machine, which has to be in xdist's group of gateways.
`Group._register` puts it there. Without that, or without xdist's group, xdist opens that gateway itself (--px), over a
second connection.

xdist starts all workers at the beginning, and later only those that replace others. Another VM for a kernel is a worker
that is added later, by what xdist does to replace one. Without that a kernel has one VM. That has to happen in xdist's
own thread, which waits for messages of workers; while VMs boot there are none, so its queue gets one of ours. Without
that another VM is added when the first has come up.
"""

from __future__ import annotations

import shlex
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import execnet

from vm.base import pump
from vm.base.private import is_hidden, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

_EXECNET_IS_IN = str(Path(execnet.__file__).parents[1])
_BASE, _BOOTSTRAP = "execnet.gateway_base", "execnet.gateway_bootstrap"


def open_gateway(
    port: socket.socket,
    *,
    name: str,
    execmodel: Literal["thread", "main_thread_only"],
    has_execnet: bool,
    wait: Callable[[], object] = lambda: None,
    kill: Callable[[], object] = lambda: None,
    register: bool = True,
) -> Any:
    """Return execnet's gateway to the Python that reads its first line from `port`.

    `has_execnet`: it finds execnet at the same path as this process; otherwise execnet's source is sent to it. `wait`
    and `kill` are for the process behind `port`. With `register` the gateway gets a group of its own, which ends it at
    the end of this process; otherwise `join` adds it to xdist's. Raises EOFError, OSError, and AssertionError if the
    first byte that comes is not execnet's.
    """
    make_io, get_execmodel = part(_BASE, "Popen2IO"), part(_BASE, "get_execmodel")
    bootstrap, add = part(_BOOTSTRAP, "bootstrap"), part(execnet.Group, "_register")
    if None in (make_io, get_execmodel, bootstrap, add):
        gateway = execnet.Group().makegateway(pumped(port, name=name, execmodel=execmodel))
        if has_execnet:
            # As `bootstrap` does: a Python that was started without site-packages finds pytest beside execnet.
            gateway.remote_exec(f"import sys; sys.path.insert(0, {_EXECNET_IS_IN!r})").waitclose()
        return gateway
    port_io = make_io(port.makefile("wb"), port.makefile("rb"), get_execmodel("thread"))
    port_io.wait, port_io.kill = wait, kill
    spec = execnet.XSpec(f"{'popen' if has_execnet else 'ssh=port'}//id={name}//execmodel={execmodel}")
    gateway = bootstrap(port_io, spec)
    gateway.spec = spec
    if register:
        add(execnet.Group(), gateway)
    return gateway


def pumped(port: socket.socket, *, name: str, execmodel: str) -> str:
    """Return execnet's specification of the Python behind `port`: of a process that passes everything on to it.

    A thread waits for that process, which execnet starts once. Raises OSError.
    """
    directory = Path(tempfile.mkdtemp(prefix="reuseport-"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "port"))
    listener.listen()

    def hand_over() -> None:
        with listener:
            connection, _ = listener.accept()
        with connection:
            socket.send_fds(connection, [b"\0"], [port.fileno()])
        (directory / "port").unlink()
        directory.rmdir()

    threading.Thread(target=hand_over, daemon=True).start()
    python = shlex.join([sys.executable, "-I", "-S", pump.__file__, str(directory / "port")])
    return f"popen//python={python}//id={name}//execmodel={execmodel}"


def can_join(config: pytest.Config) -> bool:
    """Return whether `join` will work, now or as soon as xdist has made its group."""
    parts = (part(_BASE, "Popen2IO"), part(_BOOTSTRAP, "bootstrap"), part(execnet.Group, "_register"))
    return None not in parts and hasattr(_distributor(config), "nodemanager") and not is_hidden("nodemanager")


def join(config: pytest.Config, gateways: Iterable[Any]) -> None:
    """Add gateways that were opened without `register` to xdist's group, so that workers start through them."""
    group = _group(config)
    for gateway in gateways:
        group._register(gateway)


def forget(config: pytest.Config, *, through: Iterable[Any]) -> None:
    """Have xdist not wait for workers `through` gateways whose connection broke: nobody answers how they ended.

    Where that cannot be done xdist waits ten seconds, and then gives them up.
    """
    group = _group(config)
    gateways: Any = part(group, "_gateways")
    if gateways is None:
        return
    gone = {id(gateway) for gateway in through}
    for gateway in list(group):
        channel = part(part(gateway, "_io"), "iochan")
        if channel is not None and id(channel.gateway) in gone:
            gateways.remove(gateway)


def add_worker(config: pytest.Config, specification: str) -> bool:
    """Have xdist start another worker while it runs, as it does to replace one; return whether that can be done.

    One more worker may then die than before. Raises OSError.
    """
    distributor = _distributor(config)
    manager, queue = part(distributor, "nodemanager"), part(distributor, "queue")
    active, most = part(distributor, "_active_nodes"), part(distributor, "_max_worker_restart")
    start = part(manager, "setup_node")
    if start is None or queue is None or active is None or most is None:
        return False
    specified = execnet.XSpec(specification)
    manager.group.allocate_id(specified)
    active.add(start(specified, queue.put))
    distributor._max_worker_restart = most + 1
    return True


def call_among_messages(config: pytest.Config, function: Callable[[], object]) -> bool:
    """Have xdist call a function in its own thread, between two messages of workers; return whether it will.

    To be called in any thread.
    """
    distributor = _distributor(config)
    queue = part(distributor, "queue")
    if queue is None or part(distributor, "loop_once") is None:
        return False
    # It calls the method that has the message's name, with the message's content.
    distributor.worker_call = lambda function: function()
    queue.put(("call", {"function": function}))
    return True


def silence(config: pytest.Config) -> None:
    """Have xdist print no lines of its own; where that cannot be done they are printed beside this project's."""
    distributor = _distributor(config)
    if part(distributor, "terminal") is not None:
        distributor.terminal = None
    if config.pluginmanager.has_plugin("terminaldistreporter"):
        config.pluginmanager.unregister(name="terminaldistreporter")


def _distributor(config: pytest.Config) -> Any:
    """Return xdist's plugin in the process that distributes cases."""
    return config.pluginmanager.get_plugin("dsession")


def _group(config: pytest.Config) -> Any:
    """Return xdist's group of gateways, None before it has made one."""
    return part(part(_distributor(config), "nodemanager"), "group")

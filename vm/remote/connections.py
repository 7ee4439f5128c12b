# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hold the machines of a run for the controller: which kernel runs where, and the way to its relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.base.errors import RemoteError
from vm.remote.hosts import translate
from vm.remote.ssh import Connection, close, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from vm.remote.hosts import Host


class Connections:
    """Hold the connections to other machines; a kernel without a host runs on this one."""

    def __init__(self, hosts: Mapping[str, Host | None]) -> None:
        self._hosts = hosts
        self._found: dict[Host, Connection | RemoteError] = {}

    def connect(self, *, root: Path, parts: Sequence[str], modules: Sequence[str], tell: Callable[[str], None]) -> None:
        """Connect to every machine that has a kernel to run; `tell` is called with what they complain of later."""
        wanted = dict.fromkeys(host for host in self._hosts.values() if host is not None)
        self._found = connect(wanted, root=root, parts=parts, modules=modules) if wanted else {}
        for connection in self._found.values():
            if isinstance(connection, Connection):
                connection.tell(tell)

    def collect(self, arguments: Sequence[str], *, root: Path) -> None:
        """Have a Python with these `arguments`, paths below `root` among them, collect the cases on every machine.

        So the bytecode that pytest keeps of them is there when a guest wants it.
        """
        for connection in self._found.values():
            if isinstance(connection, Connection):
                connection.collect(translate(arguments, root=str(root), directory=connection.directory))

    def word(self, kernel: str) -> str:
        """Return what --on calls the machine of `kernel`, "" for this one."""
        host = self._hosts.get(kernel)
        return host.word if host is not None else ""

    def connection(self, kernel: str) -> Connection | None:
        """Return the connection to the machine of `kernel`, None if it is this one or there is none."""
        found = self._of(kernel)
        return found if isinstance(found, Connection) else None

    def refusal(self, kernel: str) -> str:
        """Return why there is no connection to the machine of `kernel`, "" if none is missing."""
        found = self._of(kernel)
        return str(found) if isinstance(found, RemoteError) else ""

    def specification(self, kernel: str, local: str) -> str:
        """Return execnet's specification of the relay of `kernel`, made of that for a relay on this machine."""
        connection = self.connection(kernel)
        return f"{local}//via={connection.name}" if connection is not None else local

    @property
    def gateways(self) -> list[Any]:
        """Return execnet's gateways to the machines, through which relays are started."""
        return [found.gateway for found in self._found.values() if isinstance(found, Connection)]

    @property
    def broken_gateways(self) -> list[Any]:
        """Return those of the gateways whose connection has broken."""
        connections = (found for found in self._found.values() if isinstance(found, Connection))
        return [connection.gateway for connection in connections if connection.is_gone]

    def second_ways(self) -> list[str]:
        """Connect to each machine once more; return execnet's specifications of gateways over these connections.

        For an execnet that lets no gateway join a group. Raises RemoteError.
        """
        return [found.second_way() for found in self._found.values() if isinstance(found, Connection)]

    def is_cut_off(self, kernel: str) -> bool:
        """Return whether the connection to the machine of `kernel` has broken, for a kernel whose relay has ended."""
        connection = self.connection(kernel)
        return connection is not None and connection.ends()

    def close(self) -> None:
        """End every connection."""
        close(self._found.values())

    def _of(self, kernel: str) -> Connection | RemoteError | None:
        host = self._hosts.get(kernel)
        return self._found.get(host) if host is not None else None

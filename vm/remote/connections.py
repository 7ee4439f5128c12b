# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The machines of a run: which kernel runs on which, and the connection to it."""

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
    """The connections to other machines; a kernel without a host runs on this one."""

    def __init__(self, hosts: Mapping[str, Host | None]) -> None:
        self._hosts = hosts
        self._found: dict[Host, Connection | RemoteError] = {}

    def connect(self, *, root: Path, parts: Sequence[str], modules: Sequence[str], tell: Callable[[str], None]) -> None:
        """Connect to every machine that has a kernel to run; `tell` is called with each later error line from there."""
        wanted = dict.fromkeys(host for host in self._hosts.values() if host is not None)
        self._found = connect(wanted, root=root, parts=parts, modules=modules) if wanted else {}
        for connection in self._found.values():
            if isinstance(connection, Connection):
                connection.tell(tell)

    def collect(self, arguments: Sequence[str], *, root: Path) -> None:
        """Start Python with these `arguments` on every machine, paths below `root` translated: it collects the cases.

        pytest then keeps their bytecode there, which guests read.
        """
        for connection in self._found.values():
            if isinstance(connection, Connection):
                connection.collect(translate(arguments, root=str(root), directory=connection.directory))

    def word(self, kernel: str) -> str:
        """Return the word of --on for the machine of `kernel`, "" for this one."""
        host = self._hosts.get(kernel)
        return host.word if host is not None else ""

    def connection(self, kernel: str) -> Connection | None:
        """Return the connection to the machine of `kernel`, None if it is this one or there is none."""
        found = self._of(kernel)
        return found if isinstance(found, Connection) else None

    def refusal(self, kernel: str) -> str:
        """Return why the connection to the machine of `kernel` failed, "" if it did not."""
        found = self._of(kernel)
        return str(found) if isinstance(found, RemoteError) else ""

    def specification(self, kernel: str, local: str) -> str:
        """Return execnet's specification of the relay of `kernel`; `local` is that for a relay on this machine."""
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

    def proxy_specifications(self) -> list[str]:
        """Connect to each machine once more; return execnet's specifications of gateways over these connections.

        For an execnet that lets no gateway join a group. Raises RemoteError.
        """
        return [found.proxy_specification() for found in self._found.values() if isinstance(found, Connection)]

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

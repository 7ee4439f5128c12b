# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The machines of a run: which VM runs on which, and the connection to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.base.errors import RemoteError
from vm.remote.hosts import translate
from vm.remote.ssh import Connection, close, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

    from vm.remote.hosts import Host


class Connections:
    """The connections to other machines; a VM without a host runs on this one. A VM is whatever has a hash."""

    def __init__(self, hosts: Mapping[Hashable, Host | None], *, others: Iterable[Host | None] = ()) -> None:
        """`hosts` are the machines of the first VMs; those of later ones are among these or `others`."""
        self._hosts = dict(hosts)
        self._wanted = dict.fromkeys(host for host in (*hosts.values(), *others) if host is not None)
        self._found: dict[Host, Connection | RemoteError] = {}

    def connect(self, *, root: Path, parts: Sequence[str], modules: Sequence[str], tell: Callable[[str], None]) -> None:
        """Connect to every machine that may have a VM; `tell` is called with each later error line from there."""
        self._found = connect(self._wanted, root=root, parts=parts, modules=modules) if self._wanted else {}
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

    def place(self, vm: Hashable, host: Host | None) -> None:
        """Have a further VM run on one of the machines."""
        self._hosts[vm] = host

    def host(self, vm: Hashable) -> Host | None:
        """Return the machine of a VM, None for this one."""
        return self._hosts.get(vm)

    def is_reached(self, host: Host | None) -> bool:
        """Return whether VMs can be started on a machine."""
        if host is None:
            return True
        found = self._found.get(host)
        return isinstance(found, Connection) and not found.is_gone

    def word(self, vm: Hashable) -> str:
        """Return the word of --on for the machine of a VM, "" for this one."""
        host = self._hosts.get(vm)
        return host.word if host is not None else ""

    def connection(self, vm: Hashable) -> Connection | None:
        """Return the connection to the machine of a VM, None if it is this one or there is none."""
        found = self._of(vm)
        return found if isinstance(found, Connection) else None

    def refusal(self, vm: Hashable) -> str:
        """Return why the connection to the machine of a VM failed, "" if it did not."""
        found = self._of(vm)
        return str(found) if isinstance(found, RemoteError) else ""

    def refusals(self, *, beside: Iterable[Hashable]) -> list[str]:
        """Return why connections failed, but for those to the machines of VMs that report it themselves."""
        known = {self._hosts.get(vm) for vm in beside}
        found = self._found.items()
        return [str(error) for host, error in found if isinstance(error, RemoteError) and host not in known]

    def specification(self, vm: Hashable, local: str) -> str:
        """Return execnet's specification of the relay of a VM; `local` is that for a relay on this machine."""
        connection = self.connection(vm)
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

    def is_cut_off(self, vm: Hashable) -> bool:
        """Return whether the connection to the machine of a VM has broken, whose relay has ended."""
        connection = self.connection(vm)
        return connection is not None and connection.ends()

    def close(self) -> None:
        """End every connection."""
        close(self._found.values())

    def _of(self, vm: Hashable) -> Connection | RemoteError | None:
        host = self._hosts.get(vm)
        return self._found.get(host) if host is not None else None

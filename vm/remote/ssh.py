# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connect to the machines of --on by ssh; over each connection execnet starts a relay for every kernel there.

execnet has ssh gateways of its own. With these ssh's error messages go to the terminal, not to this process, and Ctrl-C
reaches ssh, which then ends before the VMs on that machine have been ended.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import execnet

from vm.base.errors import RemoteError
from vm.base.insides import open_gateway, pumped
from vm.remote import checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from vm.remote.hosts import Host

SSH = "REUSEPORT_SSH"
"""The environment variable with the ssh command, as GIT_SSH_COMMAND has it for git: "ssh -F FILE"."""

_OPTIONS = (
    # ssh must not ask: a test run may have no user, and several connections would share one terminal.
    *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
    *("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)
_SECONDS_TO_ANSWER = 60
_SECONDS_TO_END = 1

_NO_DIRECTORY, _NO_PROJECT, _NOT_SET_UP = 91, 92, 93
_SSH_FAILED = 255
_START = f"""\
cd -- {{directory}} 2>/dev/null || exit {_NO_DIRECTORY}
[ -f vm/controller/relay.py ] || exit {_NO_PROJECT}
[ -x .venv/bin/python ] || exit {_NOT_SET_UP}
exec "$PWD/.venv/bin/python" -u -c "import sys;exec(eval(sys.stdin.readline()))"
"""


class Connection:
    """The connection to one machine, from the start of ssh on."""

    def __init__(self, host: Host, *, name: str) -> None:
        """Start ssh. Raises RemoteError."""
        self.host = host
        self.name = name  # of the gateway that relays go through
        self.directory = ""  # of the project there
        self.gateway: Any = None
        self._checkout: Any = None  # the channel to `vm.remote.checkout` there
        self._said: deque[str] = deque(maxlen=20)
        self._tell: Callable[[str], None] = self._said.append
        self._second: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        self._port, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = self._start(theirs)
        except BaseException:
            self._port.close()
            raise
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _start(self, port: socket.socket) -> subprocess.Popen[bytes]:
        start = _START.format(directory=shlex.quote(self.host.directory))
        try:
            command = [*shlex.split(os.environ.get(SSH) or "ssh"), *_OPTIONS, self.host.destination]
        except ValueError as error:
            raise RemoteError(f"{self.host.word}: {SSH} is no command: {error}") from None
        try:
            return subprocess.Popen(
                [*command, f"exec sh -c {shlex.quote(start)}"],
                stdin=port.fileno(),
                stdout=port.fileno(),
                stderr=subprocess.PIPE,
                # Ctrl-C in the terminal is for the test run, which then ends the VMs, and then this.
                start_new_session=True,
            )
        except OSError as error:
            raise RemoteError(
                f"{self.host.word}: {command[0]} cannot be started ({error.strerror}): install openssh-client"
            ) from None

    def proxy_specification(self) -> str:
        """Start another ssh; return execnet's specification of a gateway over it, with the first one's name."""
        port, theirs = socket.socketpair()
        with theirs:
            self._second.append((self._start(theirs), port))
        return pumped(port, name=self.name, execmodel="thread")

    @property
    def is_gone(self) -> bool:
        """Return whether the connection has ended."""
        return self._process.poll() is not None

    def ends(self) -> bool:
        """Return whether the connection ends at once: what came through it may be known to have ended before it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        return self.is_gone

    @property
    def last_complaint(self) -> str:
        """Return the last error line of ssh or of the processes there, or a sentence that there is none."""
        self._listener.join(1)
        return next((line for line in reversed(self._said) if line), "ssh ended without a message")

    def open(self, here: dict[str, Any], *, parts: Sequence[str], modules: Sequence[str]) -> None:
        """Start a Python in the project there, and check that its files are the same as here. Raises RemoteError.

        `here` describes this machine's project (`checkout.describe`) in the same `parts`; `modules` are needed there.
        """
        silence = threading.Timer(_SECONDS_TO_ANSWER, self._process.kill)
        silence.start()
        try:
            gateway = open_gateway(
                self._port,
                name=self.name,
                execmodel="thread",
                has_execnet=False,
                wait=self._process.wait,
                kill=self._process.kill,
                register=False,
            )
            channel = gateway.remote_exec(checkout)
            channel.send({"parts": list(parts), "modules": list(modules)})
            there = channel.receive()
        except AssertionError:  # execnet's, of the first byte that it reads
            raise self._error(
                "its shell prints something of its own before it runs a command",
                "have ~/.bashrc and the like print nothing where there is no terminal",
            ) from None
        except (EOFError, OSError):
            raise self._refusal(answered=silence.is_alive()) from None
        except execnet.RemoteError as error:
            raise self._error(f"the Python there cannot look at the project: {error}", self._bootstrap) from None
        finally:
            silence.cancel()
        if there["lacks"]:
            raise self._error(f"the .venv in {self.host.shown} lacks {', '.join(there['lacks'])}", self._bootstrap)
        if why := difference(here, there):
            raise self._error(why, f"make {self.host.shown} there the same, by git push and git pull or by rsync")
        self.gateway, self.directory = gateway, there["directory"]
        self._checkout = channel  # while it is open the Python there stays

    def collect(self, arguments: list[str]) -> None:
        """Have the machine run Python with these arguments; that process ends with the connection."""
        with contextlib.suppress(OSError):  # the connection has broken, which its kernels report
            self._checkout.send(arguments)

    def tell(self, tell: Callable[[str], None]) -> None:
        """From now on call `tell` with each error line of ssh and of the processes there."""

        def keep_and_tell(line: str) -> None:
            self._said.append(line)
            tell(f"{self.host.word}: {line}")

        self._tell = keep_and_tell

    def close(self) -> None:
        """End the connection; processes at its other end notice and end."""
        for process, port in ((self._process, self._port), *self._second):
            process.kill()
            process.wait()
            port.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as complaints:
            for line in complaints:
                self._tell(line.decode(errors="replace").rstrip())

    @property
    def _bootstrap(self) -> str:
        return f"run ./bootstrap there: ssh {self.host.destination} 'cd {self.host.directory} && ./bootstrap'"

    def _refusal(self, *, answered: bool) -> RemoteError:
        """Return why there is no Python at the other end, from ssh's exit status."""
        host = self.host
        clone = f"clone the project there, or say where it is: --on {host.destination}:DIRECTORY"
        if not answered:
            return self._error(
                f"no answer in {_SECONDS_TO_ANSWER} seconds", f"check that 'ssh {host.destination} true' ends"
            )
        match self._process.wait():
            case n if n == _NO_DIRECTORY:
                return self._error(f"there is no directory {host.shown}", clone)
            case n if n == _NO_PROJECT:
                return self._error(f"{host.shown} is not this project", clone)
            case n if n == _NOT_SET_UP:
                return self._error(f"{host.shown} has no .venv", self._bootstrap)
            case n if n == _SSH_FAILED:
                return self._error(self.last_complaint, f"'ssh {host.destination} true' has to work without a question")
            case n:
                return self._error(f"the Python there ended with status {n}: {self.last_complaint}", self._bootstrap)

    def _error(self, why: str, remedy: str) -> RemoteError:
        return RemoteError(f"{self.host.word}: {why} ({remedy})")


def connect(
    hosts: Iterable[Host], *, root: Path, parts: Sequence[str], modules: Sequence[str]
) -> dict[Host, Connection | RemoteError]:
    """Connect to each of `hosts`; return the connection, or the error.

    Each needs the same project as `root`, with the same `parts`, and a Python that has `modules`.
    """
    here = checkout.describe(root, parts=parts, modules=())
    found: dict[Host, Connection | RemoteError] = {}
    try:
        # All start before this waits for the first.
        for number, host in enumerate(hosts):
            try:
                found[host] = Connection(host, name=f"on{number}")
            except RemoteError as error:
                found[host] = error
        for host, connection in found.items():
            if isinstance(connection, RemoteError):
                continue
            try:
                connection.open(here, parts=parts, modules=modules)
            except RemoteError as error:
                connection.close()
                found[host] = error
    except BaseException:
        close(found.values())
        raise
    return found


def close(connections: Iterable[Connection | RemoteError]) -> None:
    """End every connection."""
    for connection in connections:
        if isinstance(connection, Connection):
            connection.close()


def difference(here: dict[str, Any], there: dict[str, Any]) -> str:
    """Return how two descriptions of a checkout differ, "" if their files are the same."""
    names = sorted(here["files"].keys() | there["files"].keys())
    different = [name for name in names if here["files"].get(name) != there["files"].get(name)]
    if not different:
        return ""
    listed = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
    return f"the project there is at version {there['version']}, here at {here['version']}; not the same: {listed}"

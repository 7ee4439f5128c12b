# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a kernel in a VM that sees the host's files, and talk to it through a virtio-serial port.

QEMU is a child of this process and ends with it. There is nothing to clean up: the initramfs, the kernel and the port
are file descriptors.

Tests replace the VM: if the environment has REUSEPORT_VM_COMMAND, that command runs instead of QEMU. Its last argument
is the port's file descriptor; under KVM the one before is the monitor's. It prints a console on its standard output,
and speaks the protocol of `vm.guest.pid1`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vm.base.errors import MachineError
from vm.base.lifeline import lifeline
from vm.base.memory import available
from vm.boot.acceleration import SUBSTITUTE
from vm.boot.qemu import find_qemu
from vm.boot.qemu_command import qemu_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.boot.acceleration import Acceleration
    from vm.boot.options import GuestOptions
    from vm.boot.qmp import Monitor
    from vm.kernels.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What a guest is to run."""

    command: tuple[str, ...] = ()  # runs on the port; if empty, an execnet worker does
    environment: dict[str, str] = field(default_factory=dict)  # added to `guest_environment`
    bytecode: str | None = None  # a file of `vm.guest.bytecode`, from which the worker imports if it is there by then


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a guest says about itself when it is up."""

    release: str  # uname -r
    cmdline: str  # /proc/cmdline
    notes: tuple[str, ...]  # what could not be mounted


@dataclass(kw_only=True)
class Machine:
    """A running VM."""

    kernel: Kernel
    acceleration: Acceleration
    process: subprocess.Popen[bytes]
    port: socket.socket  # to the guest's worker
    modules: str | None  # the host's directory to show as /lib/modules/<release>
    complaints: bytearray  # what QEMU itself said, on its standard error
    _monitor: Monitor | None  # under KVM; a QEMU that emulates has nothing to tell but that it ended
    _readers: tuple[threading.Thread, ...]

    def greet(self, greeting: Greeting, *, patience: Callable[[], bool]) -> Hello:
        """Wait for the guest's hello, tell it what to run, and return the hello.

        `patience` is called four times a second and returns whether to go on waiting. Raises MachineError.
        """
        line = b""
        self.port.settimeout(0.25)
        while not line.endswith(b"\n"):
            try:
                part = self.port.recv(4096)
            except TimeoutError:
                if not patience():
                    raise MachineError(f"{self.kernel.name} did not come up in time") from None
                continue
            except OSError:
                part = b""
            if not part:
                self.wait(seconds=5)
                raise MachineError(f"{self.kernel.name} ended before its worker was up")
            line += part
        self.port.settimeout(None)
        said = json.loads(line)
        bytecode = greeting.bytecode
        wanted = {
            "directory": str(Path.cwd()),
            "environment": {**guest_environment(), **_headers_of(self.kernel), **greeting.environment},
            "modules": self.modules,
            "hostname": "".join(c if c.isalnum() or c in ".-" else "-" for c in self.kernel.name)[:63],
            "command": list(greeting.command),
            "bytecode": bytecode if bytecode is not None and Path(bytecode).exists() else None,
        }
        self.port.sendall(json.dumps(wanted).encode() + b"\n")
        return Hello(release=said["release"], cmdline=said["cmdline"], notes=tuple(said["notes"]))

    @property
    def starved(self) -> float:
        """Return the seconds for which the VM was ready to run and the host ran other processes.

        The second number of schedstat is the nanoseconds that a thread waited on a run queue (proc(5), Documentation/
        scheduler/sched-stats.rst). The busiest virtual CPU waits most; 0 where the kernel does not count.
        """
        waited = [0]
        with contextlib.suppress(OSError):  # the VM has ended
            for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
                with contextlib.suppress(OSError, IndexError):  # the thread has ended
                    waited.append(int((thread / "schedstat").read_text().split()[1]))
        return max(waited) / 1e9

    @property
    def trouble(self) -> str:
        """Return what QEMU reported about the VM's end, "" if nothing."""
        return self._monitor.trouble if self._monitor is not None else ""

    @property
    def is_paused(self) -> bool:
        """Return whether QEMU has stopped the VM for an error of its own or of KVM's."""
        return self._monitor is not None and self._monitor.paused

    def wait(self, *, seconds: float) -> bool:
        """Return whether the VM ended within `seconds`; if so, its console and QEMU's messages are complete."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        for reader in self._readers:
            reader.join(seconds)
        if self._monitor is not None:
            self._monitor.finish(seconds=seconds)
        return True

    def kill(self) -> None:
        """End the VM now, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.wait(seconds=10)
        self.port.close()


def start(
    kernel: Kernel,
    *,
    acceleration: Acceleration,
    options: GuestOptions,
    console: Callable[[bytes], None],
    follow_files: bool = False,
) -> Machine:
    """Start a VM with `kernel`; `console` is called, in threads, with what its console and QEMU print.

    A guest caches the host's files. With `follow_files` it caches only those below /usr: it sees changes of the others
    at once, and reads them from the host each time. Raises MachineError.
    """
    with contextlib.ExitStack() as until_started, contextlib.ExitStack() as unless_started:
        ours, theirs = _pair(until_started, unless_started)
        our_monitor, their_monitor = _pair(until_started, unless_started) if acceleration == "kvm" else (None, None)
        passed = [end.fileno() for end in (their_monitor, theirs) if end is not None]
        if substitute := os.environ.get(SUBSTITUTE):
            command, kept, modules = [*shlex.split(substitute), *map(str, passed)], list[int](), None
        else:
            qemu = find_qemu()
            _demand_memory(kernel, options)
            try:
                command, kept, modules = until_started.enter_context(
                    qemu_command(
                        kernel,
                        qemu,
                        acceleration=acceleration,
                        options=options,
                        port=theirs.fileno(),
                        monitor=their_monitor.fileno() if their_monitor is not None else None,
                        follow_files=follow_files,
                    )
                )
            except OSError as error:
                where = f"{tempfile.gettempdir()} (TMPDIR names another directory)"
                raise MachineError(f"no room for {kernel.name}'s initramfs in {where}: {error}") from error
        try:
            process = subprocess.Popen(
                [*lifeline("KILL"), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[*passed, *kept],
                # Ctrl-C in the terminal is for the test run, which then ends the VM.
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"{command[0]} cannot be started: {error.strerror}") from error
        unless_started.pop_all()
    complaints = bytearray()

    def complain(part: bytes) -> None:
        complaints.extend(part)
        console(part)

    return Machine(
        kernel=kernel,
        acceleration=acceleration,
        process=process,
        port=ours,
        modules=modules,
        complaints=complaints,
        _monitor=_listen(our_monitor, process),
        _readers=(_pass_on(process.stdout, console), _pass_on(process.stderr, complain)),
    )


def _demand_memory(kernel: Kernel, options: GuestOptions) -> None:
    """Raise MachineError if the host has less memory than the VM may use: the kernel would end QEMU."""
    if (free := available(swap=True)) < options.memory:
        raise MachineError(
            f"a VM for {kernel.name} takes up to {options.memory} MiB of memory, and {free} MiB are free here: "
            "end something that holds memory, or give the VM less (--memory)"
        )


def guest_environment() -> dict[str, str]:
    """Return the environment of a worker in a guest: this process's, with what has to differ."""
    path = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return {
        **{name: value for name, value in os.environ.items() if name != SUBSTITUTE},
        "PATH": ":".join([*path, *(sbin for sbin in ("/usr/sbin", "/sbin") if sbin not in path)]),
        # Every VM would compile for itself alone.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": os.environ.get("HOME", "/root"),
    }


def _pair(
    until_started: contextlib.ExitStack, unless_started: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket]:
    """Return our end of a connection to the VM, and the end that QEMU inherits."""
    ours, theirs = socket.socketpair()
    unless_started.callback(ours.close)
    until_started.enter_context(theirs)
    return ours, theirs


def _headers_of(kernel: Kernel) -> dict[str, str]:
    """Return the variable by which bcc finds the headers of a build tree; it finds a package's through its modules."""
    if kernel.modules is not None or kernel.headers is None:
        return {}
    return {"BCC_KERNEL_SOURCE": str(kernel.headers)}


def _listen(port: socket.socket | None, process: subprocess.Popen[bytes]) -> Monitor | None:
    if port is None:
        return None
    from vm.boot.qmp import Monitor  # noqa: PLC0415  # imports asyncio, which emulation does not need

    return Monitor(port, end=process.kill)


def _pass_on(stream: IO[bytes] | None, to: Callable[[bytes], None]) -> threading.Thread:
    """Start a thread that calls `to` with what it reads from `stream`."""
    assert stream is not None

    def read() -> None:
        with stream:
            while part := os.read(stream.fileno(), 65536):
                to(part)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run one command in a VM, for the commands `run` and `shell`."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base.errors import MachineError, UnknownKernelError
from vm.base.progress import progress_on
from vm.boot.booting import booted
from vm.boot.machine import Greeting, guest_environment
from vm.boot.options import demand_kvm, read_options
from vm.boot.qemu import demand_qemu
from vm.guest import run_command as guest_side
from vm.guest.pid1 import ENDED
from vm.kernels.catalogue import load_catalogue
from vm.kernels.obtain import obtain
from vm.kernels.obtain import select as select_kernels
from vm.report import console
from vm.report.outcomes import EXIT_STATUS, KernelOutcome

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vm.base.progress import Progress
    from vm.boot.acceleration import Acceleration
    from vm.boot.machine import Machine
    from vm.boot.options import GuestOptions
    from vm.kernels.kernel import Kernel

_SECONDS_TO_BOOT = 300

_BIN = Path(sys.executable).parent
_BASHRC = Path(__file__).with_name("shell.bashrc")

_IN_GUEST = [sys.executable, "-I", "-S", guest_side.__file__]


@dataclass(frozen=True, kw_only=True)
class Guest:
    """The user's options for the VM."""

    acceleration: Acceleration | None
    options: GuestOptions


def read_guest(args: argparse.Namespace) -> Guest:
    """Return what the parsed options of `vm.boot.options` say. Raises OptionError."""
    demand_kvm(args.accel)
    options = read_options(append=args.append, memory=args.memory, cpus=args.cpus)
    return Guest(acceleration=args.accel, options=options)


def run_command(
    kernel: Kernel, command: list[str], *, guest: Guest, write: Callable[[bytes], object] | None = None
) -> int:
    """Run `command` in a VM with `kernel` on this process's input; return its exit status.

    What it prints is printed, or handed to `write` part by part.
    """
    connect = partial(_connect_streams, write=write or _print)
    return _run(kernel, [*_IN_GUEST, "fed", *command], guest, connect)


def run_shell(kernel: Kernel, *, guest: Guest) -> int:
    """Run the user's shell in a VM with `kernel`, on this terminal; return its exit status."""
    size = shutil.get_terminal_size()
    shell = os.environ.get("SHELL", "/bin/bash")
    start = f'stty rows {size.lines} cols {size.columns}; exec "$@"'
    options = ["--rcfile", str(_BASHRC)] if Path(shell).name == "bash" else []
    command = [*_IN_GUEST, "terminal", "/bin/sh", "-c", start, "sh", shell, *options, "-i"]
    return _run(kernel, command, guest, _connect_terminal)


def take_kernel(word: str, *, mirror: str | None) -> Kernel:
    """Return the one kernel that `word` means, fetching it if need be. Raises KernelError."""
    selection, *others = select_kernels([word], catalogue=load_catalogue(), mirror=mirror)
    if others:
        names = ", ".join(one.name for one in (selection, *others))
        raise UnknownKernelError(f"{word!r} stands for several kernels, and there is one VM: name one of {names}")
    demand_qemu()
    with progress_on(sys.stderr) as progress:
        return obtain(selection, progress=progress, mirror=mirror)


def _run(kernel: Kernel, command: list[str], guest: Guest, exchange: Callable[[Machine], None]) -> int:
    observer = _Observer()
    environment = {"PATH": f"{_BIN}:{guest_environment()['PATH']}", "REUSEPORT_BIN": str(_BIN)}
    with contextlib.ExitStack() as until_ended:
        try:
            with progress_on(sys.stderr) as observer.line:
                up = until_ended.enter_context(
                    booted(
                        kernel,
                        acceleration=guest.acceleration,
                        options=guest.options,
                        greeting=Greeting(command=tuple(command), environment=environment),
                        observer=observer,
                        follow_files=exchange is _connect_terminal,
                    )
                )
        except MachineError as error:
            print(f"{console.tail(observer.said)}\nerror: {error}", file=sys.stderr)
            return EXIT_STATUS[KernelOutcome.INFRASTRUCTURE]
        exchange(up.vm)
        up.vm.wait(seconds=30)
        ended = up.explain_end()
    if status := re.search(rf"{ENDED}(-?\d+)", observer.said):
        return int(status[1])
    why = f": {ended}" if ended else ""
    print(f"the VM was lost{why}. The end of its console:\n{console.tail(observer.said)}", file=sys.stderr)
    return EXIT_STATUS[KernelOutcome.LOST_OR_HUNG]


class _Observer:
    """A `BootObserver` that keeps the console and shows progress on standard error."""

    line: Progress

    def __init__(self) -> None:
        self._console = bytearray()

    @property
    def said(self) -> str:
        """Return the consoles of all VMs so far, one after the other."""
        return self._console.decode(errors="replace").replace("\r", "")

    def console(self, part: bytes) -> None:
        """Keep a part of the console."""
        self._console.extend(part)

    def progress(self, line: str) -> None:
        """Show how far the boot is."""
        self.line(f"booting {line}")

    def tell(self, line: str) -> None:
        """Print a line that stays."""
        self.line.tell(line)

    def patience(self, vm: Machine) -> Callable[[], bool]:  # as long for each
        """Return a function that returns whether to go on waiting for `vm`."""
        deadline = time.monotonic() + _SECONDS_TO_BOOT
        return lambda: time.monotonic() < deadline


def _print(part: bytes) -> None:
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def _connect_streams(vm: Machine, *, write: Callable[[bytes], object]) -> None:
    """Pass on the input in portions, and write what comes back, until the VM ends (`vm.guest.run_command`, "fed")."""
    # In the background of a terminal, reading would stop this process; ignored, reading fails.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def feed() -> None:
        # Until the VM has ended, and this process with it.
        with contextlib.suppress(OSError):
            while portion := _read_input():
                vm.port.sendall(len(portion).to_bytes(4, "big") + portion)
            vm.port.sendall(bytes(4))

    threading.Thread(target=feed, daemon=True).start()
    while part := _receive(vm):
        write(part)


def _read_input() -> bytes:
    """Return some of the standard input, nothing at its end or where there is none."""
    try:
        return os.read(0, 65536)
    except OSError:
        return b""


def _connect_terminal(vm: Machine) -> None:
    """Pass on what is typed and what is shown until the VM ends."""
    print(f"Linux {vm.kernel.release}: what you write here is gone when you leave (Ctrl-D)", file=sys.stderr)
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    sources = [keyboard, vm.port]
    try:
        if before is not None:
            tty.setraw(keyboard, termios.TCSADRAIN)  # what was typed meanwhile is for the shell
        while True:
            ready, _, _ = select.select(sources, [], [])
            if vm.port in ready:
                if not (part := _receive(vm)):
                    return
                os.write(screen, part)
            if keyboard in ready:
                typed = os.read(keyboard, 65536)
                if not typed:
                    sources.remove(keyboard)
                with contextlib.suppress(OSError):  # the VM has ended, as it will say
                    vm.port.sendall(typed or b"\x04")  # the input has ended: so does the shell
    finally:
        if before is not None:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _receive(vm: Machine) -> bytes:
    """Return what came from the VM, nothing when it has ended."""
    try:
        return vm.port.recv(65536)
    except ConnectionError:  # it left some of its input unread
        return b""

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
from pathlib import Path
from typing import TYPE_CHECKING

from vm import console, in_guest, machine
from vm.kernels import UnknownKernelError, load_catalogue, obtain
from vm.kernels import select as select_kernels
from vm.outcomes import EXIT_STATUS, Verdict
from vm.pid1 import ENDED
from vm.progress import progress_on
from vm.qemu import demand_qemu

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.acceleration import Acceleration
    from vm.kernels import Kernel
    from vm.machine import Machine

_SECONDS_TO_BOOT = 300

_BIN = Path(sys.executable).parent
_BASHRC = Path(__file__).with_name("shell.bashrc")

_IN_GUEST = [sys.executable, "-I", "-S", in_guest.__file__]


def run_command(kernel: Kernel, command: list[str], *, acceleration: Acceleration | None) -> int:
    """Run `command` in a VM with `kernel` on this process's input; print what it prints, return its exit status."""
    return _run(kernel, [*_IN_GUEST, "fed", *command], acceleration, _pass_on_input)


def run_shell(kernel: Kernel, *, acceleration: Acceleration | None) -> int:
    """Run the user's shell in a VM with `kernel`, on this terminal; return its exit status."""
    size = shutil.get_terminal_size()
    shell = os.environ.get("SHELL", "/bin/bash")
    start = f'stty rows {size.lines} cols {size.columns}; exec "$@"'
    options = ["--rcfile", str(_BASHRC)] if Path(shell).name == "bash" else []
    command = [*_IN_GUEST, "terminal", "/bin/sh", "-c", start, "sh", shell, *options, "-i"]
    return _run(kernel, command, acceleration, _be_the_terminal)


def take_kernel(word: str, *, mirror: str | None) -> Kernel:
    """Return the one kernel that `word` means, fetching it if need be. Raises KernelError."""
    selection, *others = select_kernels([word], catalogue=load_catalogue())
    if others:
        names = ", ".join(one.name for one in (selection, *others))
        raise UnknownKernelError(f"{word!r} stands for several kernels, and there is one VM: name one of {names}")
    demand_qemu()
    with progress_on(sys.stderr) as progress:
        return obtain(selection, progress=progress, mirror=mirror)


def _run(
    kernel: Kernel, command: list[str], acceleration: Acceleration | None, exchange: Callable[[Machine], None]
) -> int:
    said = bytearray()
    try:
        vm = _boot(kernel, command, acceleration, said, follow_files=exchange is _be_the_terminal)
    except machine.MachineError as error:
        print(f"{console.tail(_text(said))}\nerror: {error}", file=sys.stderr)
        return EXIT_STATUS[Verdict.INFRASTRUCTURE]
    try:
        exchange(vm)
        vm.wait(seconds=30)
    finally:
        vm.kill()
    if status := re.search(rf"{ENDED}(-?\d+)", _text(said)):
        return int(status[1])
    print(f"the VM was lost. Its last words:\n{console.tail(_text(said))}", file=sys.stderr)
    return EXIT_STATUS[Verdict.LOST_OR_HUNG]


def _boot(
    kernel: Kernel, command: list[str], acceleration: Acceleration | None, said: bytearray, *, follow_files: bool
) -> Machine:
    deadline = time.monotonic() + _SECONDS_TO_BOOT
    with progress_on(sys.stderr) as progress:
        vm = machine.start(
            kernel, console=said.extend, progress=progress, acceleration=acceleration, follow_files=follow_files
        )
        try:
            progress(f"booting {kernel.release}")
            vm.greet(
                command=command,
                environment={"PATH": f"{_BIN}:{machine.guest_environment()['PATH']}", "REUSEPORT_BIN": str(_BIN)},
                patience=lambda: time.monotonic() < deadline,
            )
        except BaseException:
            vm.kill()
            raise
    return vm


def _pass_on_input(vm: Machine) -> None:
    """Pass on the input in portions, and what comes back, until the VM ends (`vm.in_guest`, "fed")."""
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
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def _read_input() -> bytes:
    """Return some of the standard input, nothing at its end or where there is none."""
    try:
        return os.read(0, 65536)
    except OSError:
        return b""


def _be_the_terminal(vm: Machine) -> None:
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


def _text(said: bytearray) -> str:
    return said.decode(errors="replace").replace("\r", "")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run one command in a VM, for the commands `run` and `shell`."""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from vm import console, machine
from vm.kernels import load_catalogue, obtain
from vm.kernels import select as select_kernels
from vm.outcomes import EXIT_STATUS, Verdict
from vm.pid1 import ENDED
from vm.progress import progress_on

if TYPE_CHECKING:
    from vm.acceleration import Acceleration
    from vm.kernels import Kernel
    from vm.machine import Machine

_SECONDS_TO_BOOT = 300

# A port is no terminal: the guest's Python makes one for the shell.
_IN_A_TERMINAL = "import pty, sys, os; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def run_command(kernel: Kernel, command: list[str], *, acceleration: Acceleration | None) -> int:
    """Run `command` in a VM with `kernel`, without input; print what it prints and return its exit status."""
    return _run(kernel, ["/bin/sh", "-c", 'exec "$@" </dev/null', "sh", *command], acceleration, interactive=False)


def run_shell(kernel: Kernel, *, acceleration: Acceleration | None) -> int:
    """Run the user's shell in a VM with `kernel`, on this terminal; return its exit status."""
    size = shutil.get_terminal_size()
    shell = os.environ.get("SHELL", "/bin/bash")
    start = f'stty rows {size.lines} cols {size.columns}; exec "$0" -i'
    command = [sys.executable, "-I", "-S", "-c", _IN_A_TERMINAL, "/bin/sh", "-c", start, shell]
    return _run(kernel, command, acceleration, interactive=True)


def take_kernel(word: str, *, mirror: str | None) -> Kernel:
    """Return the one kernel that `word` means, fetching it if need be. Raises KernelError."""
    selections = select_kernels([word], catalogue=load_catalogue())
    with progress_on(sys.stderr) as progress:
        return obtain(selections[0], progress=progress, mirror=mirror)


def _run(kernel: Kernel, command: list[str], acceleration: Acceleration | None, *, interactive: bool) -> int:
    said = bytearray()
    try:
        vm = _boot(kernel, command, acceleration, said)
    except machine.MachineError as error:
        print(f"{console.tail(_text(said))}\nerror: {error}", file=sys.stderr)
        return EXIT_STATUS[Verdict.INFRASTRUCTURE]
    try:
        if interactive:
            print(f"Linux {kernel.release}: what you write here is gone when you leave (Ctrl-D)", file=sys.stderr)
            _exchange(vm)
        else:
            while part := vm.port.recv(65536):
                sys.stdout.buffer.write(part)
                sys.stdout.buffer.flush()
        vm.wait(seconds=30)
    finally:
        vm.kill()
    if status := re.search(rf"{ENDED}(-?\d+)", _text(said)):
        number = int(status[1])
        return number if number >= 0 else 128 - number  # as a shell has it for a signal
    print(f"the VM was lost. Its last words:\n{console.tail(_text(said))}", file=sys.stderr)
    return EXIT_STATUS[Verdict.LOST_OR_HUNG]


def _boot(kernel: Kernel, command: list[str], acceleration: Acceleration | None, said: bytearray) -> Machine:
    deadline = time.monotonic() + _SECONDS_TO_BOOT
    with progress_on(sys.stderr) as progress:
        vm = machine.start(kernel, console=said.extend, progress=progress, acceleration=acceleration)
        try:
            progress(f"booting {kernel.release}")
            vm.greet(
                command=command,
                environment={"PATH": f"{Path(sys.executable).parent}:{machine.guest_environment()['PATH']}"},
                patience=lambda: time.monotonic() < deadline,
            )
        except BaseException:
            vm.kill()
            raise
    return vm


def _exchange(vm: Machine) -> None:
    """Pass on what is typed and what is shown until the VM ends."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    sources = [keyboard, vm.port]
    try:
        if before is not None:
            tty.setraw(keyboard)
        while True:
            ready, _, _ = select.select(sources, [], [])
            if vm.port in ready:
                if not (part := vm.port.recv(65536)):
                    return
                os.write(screen, part)
            if keyboard in ready:
                if typed := os.read(keyboard, 65536):
                    vm.port.sendall(typed)
                else:
                    vm.port.sendall(b"\x04")  # the input has ended: so does the shell
                    sources.remove(keyboard)
    finally:
        if before is not None:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _text(said: bytearray) -> str:
    return said.decode(errors="replace").replace("\r", "")

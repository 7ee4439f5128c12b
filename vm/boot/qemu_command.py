# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the command that runs a kernel in QEMU with the host's file system as its root.

virtme-ng makes the initramfs, with the modules that this kernel needs for the host's files, and prints the QEMU command
that it would run. It has no function that returns these arguments (read in virtme-ng 1.42: virtme.commands.run
builds the list inside do_it, and --dry-run prints it), so `_ask_virtme` and `_sort_out` read what it prints.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from virtme.cpiowriter import CpioWriter

from vm.base.children import demand_room, scratch_directory
from vm.base.errors import MachineError
from vm.base.lifeline import lifeline
from vm.boot.parameters import FOLLOWED, PORT, command_line
from vm.boot.vmlinux import extract_vmlinux
from vm.guest import pid1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.boot.acceleration import Acceleration
    from vm.boot.options import GuestOptions
    from vm.kernels.kernel import Kernel

_INIT = Path(__file__).with_name("init.sh")

EMULATED_CPU = "max,-erms,-fsrm"
"""Every feature that QEMU emulates, except the flags for a fast `rep movsb`: QEMU moves one byte each iteration.

Without these flags kernels clear and copy pages eight bytes at a time, and a page fault takes a third of the time.
"""


@contextlib.contextmanager
def qemu_command(
    kernel: Kernel,
    qemu: str,
    *,
    acceleration: Acceleration,
    options: GuestOptions,
    port: int,
    monitor: int | None,
    follow_files: bool,
) -> Iterator[tuple[list[str], list[int], str | None]]:
    """Yield QEMU's command line, the file descriptors that it names, and where the host has the modules.

    `port` and `monitor` are descriptors too, the caller's: of the guest's worker and of QMP. The others are open until
    the context ends. Raises MachineError, and OSError where there is no room for the initramfs.
    """
    parameters = command_line(acceleration, added=options.append)
    with scratch_directory() as directory, contextlib.ExitStack() as open_files:
        initramfs = directory / "initramfs"
        shown = _ask_virtme(kernel, initramfs, acceleration=acceleration, options=options)
        _run_our_init(initramfs, _first_process(follow_files=follow_files))
        given, append = _sort_out(shown)
        kernel_file = _open_kernel(kernel, open_files)
        initramfs_file = open_files.enter_context(initramfs.open("rb")).fileno()
        command = [
            qemu,
            *given,
            *(("-cpu", EMULATED_CPU) if acceleration == "tcg" else ()),
            "-no-reboot",
            *("-kernel", f"/proc/self/fd/{kernel_file}" if kernel_file is not None else str(kernel.image)),
            *("-initrd", f"/proc/self/fd/{initramfs_file}"),
            *("-append", parameters),
            *("-chardev", f"socket,id=worker,fd={port}"),
            *("-device", f"virtserialport,name={PORT},chardev=worker"),
        ]
        if monitor is not None:
            command += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]
        if follow_files:
            command += [
                *("-fsdev", "local,id=followed,path=/,security_model=none,readonly=on,multidevs=remap"),
                *("-device", f"virtio-9p-pci,fsdev=followed,mount_tag={FOLLOWED}"),
            ]
        # A build tree's modules are where virtme-ng put them.
        modules = append.get("virtme_link_mods") or (str(kernel.modules) if kernel.modules else None)
        yield command, [fd for fd in (kernel_file, initramfs_file) if fd is not None], modules


def _ask_virtme(kernel: Kernel, initramfs: Path, *, acceleration: Acceleration, options: GuestOptions) -> list[str]:
    """Have virtme-ng make the initramfs of `kernel` and return the QEMU command that it would run. Raises OSError."""
    asked = subprocess.run(
        [
            *lifeline("KILL"),
            *(sys.executable, "-m", "virtme.commands.run", "--kimg", str(kernel.image), "--mods", "auto"),
            *("--force-9p", "--force-initramfs", "--save-initramfs", str(initramfs), "--disable-monitor"),
            *([] if acceleration == "kvm" else ["--disable-kvm"]),
            *("--memory", f"{options.memory}M", "--cpus", str(options.cpus)),
            # For its overlay module: the overlay itself is made in the guest.
            *("--overlay-rwdir", "/tmp"),
            *("--dry-run", "--show-command"),
        ],
        # It makes a directory of its own, which it does not remove when it is killed.
        env={**os.environ, "TMPDIR": str(initramfs.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",  # paths
        check=False,
    )
    commands = [line for line in asked.stdout.splitlines() if " -append " in line]
    if not commands or not initramfs.exists():
        what = (asked.stderr.strip() or asked.stdout.strip()).splitlines()
        demand_room(asked.stderr)
        raise MachineError(f"virtme-ng cannot boot {kernel.image}: {what[-1] if what else 'it says nothing'}")
    return shlex.split(commands[-1])


def _sort_out(shown: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the QEMU arguments to keep of those that virtme-ng prints, and its kernel parameters by name."""
    kept: list[str] = []
    append: dict[str, str] = {}
    arguments = iter(shown[1:])
    for option in arguments:
        if option in ("-echr", "-kernel", "-initrd"):
            next(arguments)
        elif option == "-append":
            append = dict(word.partition("=")[::2] for word in shlex.split(next(arguments)))
        elif option in ("-chardev", "-device"):
            value = next(arguments)
            # Its second console, for kernel messages on standard error.
            if "id=dmesg" not in value and "chardev=dmesg" not in value:
                kept += [option, value]
        elif option == "-machine":
            # Without KVM QEMU would emulate silently.
            kept += [option, next(arguments).replace("accel=kvm:tcg", "accel=kvm")]
        else:
            kept.append(option)
    return kept, append


def _open_kernel(kernel: Kernel, open_files: contextlib.ExitStack) -> int | None:
    """Return a file descriptor of the decompressed kernel, None if QEMU cannot start it directly."""
    vmlinux = extract_vmlinux(kernel.image)
    if vmlinux is None:
        return None
    file = os.memfd_create("vmlinux")
    open_files.callback(os.close, file)
    with open(file, "wb", closefd=False) as out:  # a descriptor, not a path
        out.write(vmlinux)
    return file


def _run_our_init(initramfs: Path, command: list[str]) -> None:
    """Replace /init in an initramfs by vm/boot/init.sh, which ends by running `command`.

    Of two files of one name the later stays, and an initramfs may be several archives one after the other, each from a
    place divisible by four (Documentation/driver-api/early-userspace/buffer-format.rst). The command is in a file for
    the shell, for a path with blanks cannot be one of a kernel's parameters.
    """
    with initramfs.open("ab") as file:
        file.write(bytes(-file.tell() % 4))
        archive = CpioWriter(file)
        archive.write_file(b"init", body=_INIT.read_bytes(), mode=0o755)
        archive.write_file(b"command", body=os.fsencode(f"set -- {shlex.join(command)}\n"), mode=0o644)
        archive.write_trailer()


def _first_process(*, follow_files: bool) -> list[str]:
    """Return the command that is `vm.guest.pid1` in the Python that runs here."""
    return [sys.executable, "-I", "-S", str(Path(pid1.__file__)), PORT, *([FOLLOWED] if follow_files else [])]

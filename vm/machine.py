# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Boot a kernel in a VM whose root is the host's file system, and talk to it through a port of its own.

virtme-ng says which QEMU arguments show the host's files to this kernel and makes the initramfs with its modules; QEMU
is then started from here, so that there is one process to end, which dies with this one, and nothing to clean up: the
initramfs, the kernel and the port are file descriptors.

Tests substitute the VM, not the kernel's behaviour: where the environment has REUSEPORT_VM_COMMAND, that command runs
instead of QEMU. It gets the number of the port's file descriptor as its last argument, prints a console on its
standard output, and keeps to the protocol of `vm.pid1`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from virtme.cpiowriter import CpioWriter

from vm import pid1
from vm.acceleration import Acceleration, choose_acceleration
from vm.children import demand_room, dying_with_us, scratch_directory
from vm.errors import KernelError
from vm.kernels import missing_options
from vm.memory import available
from vm.qemu import QEMU, SUBSTITUTE, find_qemu
from vm.vmlinux import extract_vmlinux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vm.kernels import Kernel

PORT = "reuseport.worker"
FOLLOWED = "reuseport.followed"
"""The tag by which a guest mounts the host's files a second time, to keep nothing of what it has read of them."""
_INIT = Path(__file__).with_name("init.sh")

BOOT_PARAMETERS = (
    "console=ttyS0",
    "earlyprintk=serial,ttyS0,115200",
    # Notices and worse: an emulated serial port is slow. `vm.pid1` raises it when the cases begin.
    "loglevel=6",
    # Cases begin and end faster than the rate that /dev/kmsg admits.
    "printk.devkmsg=on",
    # Whatever stops the kernel ends the VM: with -no-reboot QEMU exits.
    "panic=-1",
    "oops=panic",
    "softlockup_panic=1",
    "hung_task_panic=1",
    # A busy host starves an emulated CPU for longer than the defaults (soft lockup after 20 s, RCU stall after 21 s).
    "watchdog_thresh=30",
    "rcupdate.rcu_cpu_stall_timeout=60",
    # An update of an outer map, or the end of a namespace, waits for a grace period: 10 ms each, most of what a case
    # takes where KVM works. Expedited ones are over at once, which also frees what a bug still uses the sooner.
    "rcupdate.rcu_expedited=1",
    # Counts ticks while it spins, and panics ("IO-APIC + timer doesn't work!") where the host gives it no time; a KVM
    # guest leaves it out by itself (kvm_guest_init).
    "no_timer_check",
    "nokaslr",
)

ONE_CPU_ONLINE = "maxcpus=1"
"""Under emulation the other CPUs wait offline for a case that needs them and writes 1 to cpuN/online.

Two emulated CPUs wait for each other's answers in busy loops: where the host has other work, a boot with both takes
twice the time. Offline they cost nothing.
"""

EMULATED_CPU = "max,-erms,-fsrm"
"""Everything that QEMU emulates but the promise that `rep movsb` is fast: QEMU moves one byte an iteration.

Without the promise kernels clear and copy pages eight bytes at a time, a page fault in a third of the time.
"""


class MachineError(KernelError):
    """Say why a VM did not come up: the infrastructure's fault, never a case's."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Hold what a VM takes of the host."""

    memory: int = 1024  # MiB
    cpus: int = 2


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Hold what the guest said of itself."""

    release: str  # uname -r
    cmdline: str  # /proc/cmdline
    notes: tuple[str, ...]  # what could not be mounted


@dataclass(kw_only=True)
class Machine:
    """Hold a running VM."""

    kernel: Kernel
    acceleration: str
    process: subprocess.Popen[bytes]
    port: socket.socket  # to the guest's worker
    modules: str | None  # the host's directory to show as /lib/modules/<release>
    _console: threading.Thread

    def greet(
        self,
        *,
        command: list[str],
        patience: Callable[[], bool],
        environment: dict[str, str] | None = None,
        bytecode: str | None = None,
    ) -> Hello:
        """Wait for the guest, tell it what to become, and return what it said.

        `command` runs on the port; if empty, an execnet worker does. `environment` is added to `guest_environment`.
        The worker imports what `vm.bytecode` has put into the file `bytecode`, if it is there by now, from there.
        `patience` is asked every now and then whether to go on waiting. Raises MachineError.
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
        wanted = {
            "directory": str(Path.cwd()),
            "environment": {**guest_environment(), **_headers_of(self.kernel), **(environment or {})},
            "modules": self.modules,
            "hostname": "".join(c if c.isalnum() or c in ".-" else "-" for c in self.kernel.name)[:63],
            "command": command,
            "bytecode": bytecode if bytecode is not None and Path(bytecode).exists() else None,
        }
        self.port.sendall(json.dumps(wanted).encode() + b"\n")
        return Hello(release=said["release"], cmdline=said["cmdline"], notes=tuple(said["notes"]))

    @property
    def starved(self) -> float:
        """Return the seconds for which the VM could have run and the host had other work.

        The second number of schedstat is the nanoseconds that a thread waited on a run queue (proc(5), Documentation/
        scheduler/sched-stats.rst). The busiest virtual CPU waits most; 0 where the kernel does not count.
        """
        waited = [0]
        with contextlib.suppress(OSError):  # the VM has ended
            for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
                with contextlib.suppress(OSError, IndexError):  # the thread has ended
                    waited.append(int((thread / "schedstat").read_text().split()[1]))
        return max(waited) / 1e9

    def wait(self, *, seconds: float) -> bool:
        """Tell whether the VM ended within `seconds`; if so its console is complete."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._console.join(seconds)
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
    console: Callable[[bytes], None],
    progress: Callable[[str], None],
    acceleration: Acceleration | None = None,
    size: Size | None = None,
    follow_files: bool = False,
) -> Machine:
    """Start a VM with `kernel`; `console` is called, in a thread of its own, with what its console says.

    A guest keeps what it has read of the host's files. With `follow_files` it keeps those below /usr alone: it sees at
    once what becomes of the others, and asks the host about each of them again and again. Raises MachineError.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as until_started, contextlib.ExitStack() as unless_started:
        unless_started.callback(ours.close)
        if substitute := os.environ.get(SUBSTITUTE):
            command, kept, modules = [*shlex.split(substitute), str(theirs.fileno())], list[int](), None
            acceleration = acceleration or "tcg"
        else:
            if fatal := [option for option in missing_options(kernel) if option.fatal]:
                lacks = "; ".join(f"{option.option}: {option.why}" for option in fatal)
                raise MachineError(f"{kernel.name} cannot run as a guest. Its configuration lacks {lacks}")
            qemu = find_qemu()
            _demand_memory(kernel, size or Size())
            acceleration = acceleration or choose_acceleration(qemu, progress=progress)
            try:
                command, kept, modules = until_started.enter_context(
                    _qemu_command(
                        kernel,
                        qemu,
                        acceleration=acceleration,
                        size=size or Size(),
                        port=theirs.fileno(),
                        follow_files=follow_files,
                    )
                )
            except OSError as error:
                where = f"{tempfile.gettempdir()} (TMPDIR names another directory)"
                raise MachineError(f"no room for {kernel.name}'s initramfs in {where}: {error}") from error
        try:
            process = subprocess.Popen(
                [*dying_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # QEMU's own complaints belong to what the console shows.
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), *kept],
                # Ctrl-C in the terminal is for the test run, which then ends the VM.
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"{command[0]} cannot be started: {error.strerror}") from error
        unless_started.pop_all()
    reader = threading.Thread(target=_read_console, args=(process, console), daemon=True)
    reader.start()
    return Machine(
        kernel=kernel, acceleration=acceleration, process=process, port=ours, modules=modules, _console=reader
    )


def guest_environment() -> dict[str, str]:
    """Return the environment of a worker in a guest: this process's, where what a guest differs in."""
    path = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return {
        **{name: value for name, value in os.environ.items() if name != SUBSTITUTE},
        "PATH": ":".join([*path, *(sbin for sbin in ("/usr/sbin", "/sbin") if sbin not in path)]),
        # Every VM would compile for itself alone.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": os.environ.get("HOME", "/root"),
    }


def _demand_memory(kernel: Kernel, size: Size) -> None:
    """Raise MachineError where the VM would be ended for want of memory, sooner or later."""
    if (free := available(swap=True)) < size.memory:
        raise MachineError(
            f"a VM for {kernel.name} takes up to {size.memory} MiB of memory, and {free} MiB are free here: "
            "end something that holds memory, or give the VM less (--memory)"
        )


def _headers_of(kernel: Kernel) -> dict[str, str]:
    """Return what leads bcc to the headers of a build tree; a package's are where its modules say."""
    if kernel.modules is not None or kernel.headers is None:
        return {}
    return {"BCC_KERNEL_SOURCE": str(kernel.headers)}


@contextlib.contextmanager
def _qemu_command(
    kernel: Kernel, qemu: str, *, acceleration: Acceleration, size: Size, port: int, follow_files: bool
) -> Iterator[tuple[list[str], list[int], str | None]]:
    """Yield QEMU's command line, the file descriptors that it names, and where the host has the modules.

    The file descriptors are open until the context ends.
    """
    with scratch_directory() as directory, contextlib.ExitStack() as open_files:
        initramfs = directory / "initramfs"
        shown = _ask_virtme(kernel, initramfs, acceleration=acceleration, size=size)
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
            *("-append", " ".join([*_boot_parameters(acceleration), "rdinit=/init"])),
            *("-chardev", f"socket,id=worker,fd={port}"),
            *("-device", f"virtserialport,name={PORT},chardev=worker"),
        ]
        if follow_files:
            command += [
                *("-fsdev", "local,id=followed,path=/,security_model=none,readonly=on,multidevs=remap"),
                *("-device", f"virtio-9p-pci,fsdev=followed,mount_tag={FOLLOWED}"),
            ]
        # A build tree's modules are where virtme-ng put them.
        modules = append.get("virtme_link_mods") or (str(kernel.modules) if kernel.modules else None)
        yield command, [fd for fd in (kernel_file, initramfs_file) if fd is not None], modules


def _ask_virtme(kernel: Kernel, initramfs: Path, *, acceleration: Acceleration, size: Size) -> list[str]:
    """Have virtme-ng make the initramfs of `kernel` and return the QEMU command that it would run. Raises OSError."""
    asked = subprocess.run(
        [
            *dying_with_us(),
            *(sys.executable, "-m", "virtme.commands.run", "--kimg", str(kernel.image), "--mods", "auto"),
            *("--force-9p", "--force-initramfs", "--save-initramfs", str(initramfs), "--disable-monitor"),
            *([] if acceleration == "kvm" else ["--disable-kvm"]),
            *("--memory", f"{size.memory}M", "--cpus", str(size.cpus)),
            # For its overlay module: the overlay itself is made in the guest.
            *("--overlay-rwdir", "/tmp"),
            *("--dry-run", "--show-command"),
        ],
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
    """Split what virtme-ng shows into the QEMU arguments to keep and the kernel parameters, by name."""
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
        else:
            kept.append(option)
    return kept, append


def _open_kernel(kernel: Kernel, open_files: contextlib.ExitStack) -> int | None:
    """Return a file descriptor of the decompressed kernel, None if there is none to start directly."""
    vmlinux = extract_vmlinux(kernel.image)
    if vmlinux is None:
        return None
    file = os.memfd_create("vmlinux")
    open_files.callback(os.close, file)
    with open(file, "wb", closefd=False) as out:  # a descriptor, not a path
        out.write(vmlinux)
    return file


def _boot_parameters(acceleration: Acceleration) -> list[str]:
    return [*BOOT_PARAMETERS, *([ONE_CPU_ONLINE] if acceleration == "tcg" else [])]


def _run_our_init(initramfs: Path, command: list[str]) -> None:
    """Replace what an initramfs begins with by vm/init.sh, which goes on with `command`.

    Of two files of one name the later stays, and an initramfs may be several archives one after the other, each from a
    place divisible by four (Documentation/driver-api/early-userspace/buffer-format.rst). The command is in a file for
    the shell, for a kernel's parameters have no way to say a path with blanks.
    """
    with initramfs.open("ab") as file:
        file.write(bytes(-file.tell() % 4))
        archive = CpioWriter(file)
        archive.write_file(b"init", body=_INIT.read_bytes(), mode=0o755)
        archive.write_file(b"command", body=os.fsencode(f"set -- {shlex.join(command)}\n"), mode=0o644)
        archive.write_trailer()


def _first_process(*, follow_files: bool) -> list[str]:
    """Return the command that is `vm.pid1` in the Python that runs here."""
    return [sys.executable, "-I", "-S", str(Path(pid1.__file__)), PORT, *([FOLLOWED] if follow_files else [])]


def _read_console(process: subprocess.Popen[bytes], console: Callable[[bytes], None]) -> None:
    assert process.stdout is not None
    with process.stdout as stdout:
        while part := os.read(stdout.fileno(), 65536):
            console(part)


__all__ = ["PORT", "QEMU", "SUBSTITUTE", "Hello", "Machine", "MachineError", "Size", "start"]

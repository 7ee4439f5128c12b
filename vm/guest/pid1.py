# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The guest's first process: it mounts what cases need, then becomes the Python that the host talks to.

virtme-ng's own init takes longer under emulation: systemd-tmpfiles 2 s, udev's coldplug 10 s where udevd is installed,
and each mount(8) of its shell is a program that is read through 9p. init.sh starts this file with `python -I -S`, so it
imports the standard library alone. The guest sees the host's files under an overlay in its memory: a case may write
anywhere, and nothing of it is left when the VM ends.

The guest caches the host's files: Python looks for each module in many places, and would ask the host each time. A
second argument names a 9p share without a cache, for all files but those below /usr.

On the virtio-serial port named by the first argument, guest and host each write one line of JSON:

    guest  {"release": uname -r, "cmdline": …, "notes": [what could not be mounted]}
    host   {"directory": …, "environment": {…}, "modules": directory or null, "hostname": …, "command": [] or argv,
            "bytecode": file or null}

after which the port is the standard input and output of an execnet worker, or, if there is one, of `command`, whose
status is then on the console.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

PORTS = Path("/sys/class/virtio-ports")
ENDED = "reuseport-harness: ended with status "
"""The beginning of the last line that the guest writes to its kernel log."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_MOVE = 1, 2, 4, 8, 8192
_POWER_OFF = 0x4321FEDC
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_SECONDS_TO_PROBE_THE_PORT = 60

_FOLLOWING = "trans=virtio,version=9p2000.L,access=any,msize=524288"

_SYSTEM = (
    # source, target, type, flags
    ("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
    ("sysfs", "/sys", "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
    ("devtmpfs", "/dev", "devtmpfs", _MS_NOSUID | _MS_NOEXEC),
    ("tmpfs", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV),
    ("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC),
    ("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV),
    ("bpf", "/sys/fs/bpf", "bpf", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
    ("debugfs", "/sys/kernel/debug", "debugfs", 0),  # bcc reads kprobes/blacklist, and attaches through tracing/
    ("tracefs", "/sys/kernel/tracing", "tracefs", 0),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
)

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: mount {kind} on {target}")


def _become_writable(followed: str | None) -> None:
    """Make an overlay over the host's files the root; those outside /usr come from the share `followed`, if given."""
    _mount("tmpfs", "/run", "tmpfs")
    Path("/run/root").mkdir()
    if followed is None:
        _overlay("files", "/", "/run/root")
    else:
        Path("/run/files").mkdir()
        _mount(followed, "/run/files", "9p", _MS_RDONLY, _FOLLOWING)
        _overlay("followed", "/run/files", "/run/root")
        _overlay("kept", "/usr", "/run/root/usr")
    os.chdir("/run/root")
    _mount(".", "/", "", _MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def _overlay(name: str, lower: str, target: str) -> None:
    """Mount an overlay of the directory `lower` at `target`, with changes in memory."""
    upper, work = Path("/run", f"{name}.upper"), Path("/run", f"{name}.work")
    upper.mkdir()
    work.mkdir()
    # Inode numbers of the host are 64 bits wide already: xino would only warn that it has no bits left.
    _mount(name, target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work},xino=off")


def _mount_system() -> list[str]:
    """Mount the file systems of a running system; return a note for each that failed."""
    notes = []
    for source, target, kind, flags in _SYSTEM:
        try:
            if not Path(target).is_dir():
                Path(target).mkdir()
            _mount(source, target, kind, flags)
        except OSError as error:
            notes.append(str(error))
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not Path("/dev", link).exists():
            Path("/dev", link).symlink_to(target)
    return notes


def _link_modules(modules: str) -> None:
    """Show the kernel's modules where modprobe and bcc look for them."""
    target = Path("/lib/modules")
    target.mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", str(target), "tmpfs")
    (target / os.uname().release).symlink_to(modules)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _open_port(name: str) -> int:
    """Open the virtio-serial port `name`; without udev there is no /dev/virtio-ports to find it by."""
    deadline = time.monotonic() + _SECONDS_TO_PROBE_THE_PORT
    while time.monotonic() < deadline:
        for port in PORTS.glob("*/name"):
            if port.read_text().strip() == name:
                return os.open(f"/dev/{port.parent.name}", os.O_RDWR)
        time.sleep(0.02)  # the driver is still probing its ports: there is nothing to wait on but the file
    raise TimeoutError(f"no virtio-serial port is called {name}: is virtio_console missing?")


def _read_line(port: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(port, 1)
        if not byte:
            raise EOFError("the host closed the port")
        line += byte
    return line


def _work(port_name: str, notes: list[str]) -> None:
    """Exchange the lines with the host, and become what it asks for."""
    port = _open_port(port_name)
    hello = {"release": os.uname().release, "cmdline": Path("/proc/cmdline").read_text().strip(), "notes": notes}
    os.write(port, json.dumps(hello).encode() + b"\n")
    wanted: dict[str, Any] = json.loads(_read_line(port))
    socket.sethostname(wanted["hostname"])
    if wanted["modules"]:
        _link_modules(wanted["modules"])
    # From here on all messages but those for debugging: the kernel prints the stack of a hung task as information.
    Path("/proc/sys/kernel/printk").write_text("7")
    os.environ.clear()
    os.environ.update(wanted["environment"], REUSEPORT_KMSG="/dev/kmsg")
    os.setsid()
    os.chdir(wanted["directory"])
    os.dup2(port, 0)
    os.dup2(port, 1)
    os.close(port)
    if wanted["command"]:
        os.dup2(1, 2)
        os.execvp(wanted["command"][0], wanted["command"])
    if wanted["bytecode"]:
        _import_from(wanted["bytecode"])
    # Imports and collection make many objects that all stay: `vm.guest.fastpath` enables it after that.
    gc.disable()
    # What execnet has every Python do that it starts (popen_bootstrapline of execnet.gateway_io, read in 2.1.2).
    # At the level of a module, for execnet may send all of its source.
    exec(eval(sys.stdin.readline()), globals())


def _import_from(bytecode: str) -> None:
    """From here on import the modules in a file of `vm.guest.bytecode` from there."""
    home = str(Path(__file__).parents[2])
    sys.path.insert(0, home)
    from vm.guest.bytecode import install  # noqa: PLC0415  # this file is run by itself

    sys.path.remove(home)
    install(bytecode)


def main() -> None:
    """Set the guest up, run the worker in a child process, and power off when it ends."""
    notes = []
    try:
        _become_writable(sys.argv[2] if len(sys.argv) > 2 else None)
    except OSError as error:
        notes.append(f"{error}: the guest's files are read-only")
    notes += _mount_system()
    _raise_loopback()
    worker = os.fork()
    if worker == 0:
        try:
            _work(sys.argv[1], notes)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    # As the first process it inherits every orphan.
    ended = 0
    while ended != worker:
        ended, status = os.wait()
    Path("/dev/kmsg").write_text(f"<5>{ENDED}{os.waitstatus_to_exitcode(status)}\n")
    _libc.reboot(_POWER_OFF)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Try, in a guest, to change a file of the host and to reach a network: python reaching_out.py FILE.

Prints one JSON object: what became of each attempt ("done", or the name of the error) and what devices there are. It is
root in the guest and does what only a hostile kernel or program would: it takes the overlay away that keeps a case's
writes in memory, and writes to the share below it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MS_REMOUNT, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x20, 0x4000, 0x40000, 2
_CLONE_NEWNS = 0x20000
_HOST = 2  # the address of the host on a vsock: VMADDR_CID_HOST

_libc = ctypes.CDLL(None, use_errno=True)


def _demand(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _came_to(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def take_the_overlay_away() -> None:
    """Have this process see what the guest's first mount shows: the host's files, with nothing over them."""
    _demand(_libc.unshare(_CLONE_NEWNS))
    _demand(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _demand(_libc.umount2(b"/", _MNT_DETACH))
    _demand(_libc.setns(namespace, _CLONE_NEWNS))  # the root becomes the topmost mount that is left


def mount_of_root() -> list[str]:
    """Return the root's type, its mount's options and its file system's (mountinfo in proc(5))."""
    _demand(_libc.mount(b"proc", b"/proc", b"proc", 0, None))
    (mount,) = (line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/")
    here, _, there = mount.partition(" - ")
    return [there.split()[0], here.split()[5], there.split()[2]]


def write(path: Path) -> None:
    """Change the file's first byte."""
    with path.open("r+b", buffering=0) as file:
        file.write(b"X")


def attempts_on(path: Path) -> dict[str, Callable[[], object]]:
    """Return ways to change a file and the directory that it is in, by their names."""
    beside = path.with_name("made-in-a-guest")
    return {
        "write": lambda: write(path),
        "truncate": lambda: os.truncate(path, 0),
        "chmod": lambda: path.chmod(0o777),
        "chown": lambda: os.chown(path, 1, 1),
        "set times": lambda: os.utime(path, (1, 1)),
        "set attribute": lambda: os.setxattr(path, "user.guest", b"X"),
        "create": beside.touch,
        "make directory": beside.mkdir,
        "make device": lambda: os.mknod(beside, 0o20600, os.makedev(1, 1)),
        "link": lambda: os.link(path, beside),
        "link symbolically": lambda: beside.symlink_to(path),
        "rename": lambda: path.rename(beside),
        "remove": path.unlink,
    }


def connect_to_the_host() -> None:
    """Connect to the host by the one kind of socket that needs no network device."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as connection:
        connection.connect((_HOST, 1))


def main() -> None:
    """Try everything and print it."""
    path = Path(sys.argv[1])
    # Asked for first: /sys is gone with the overlay.
    said: dict[str, object] = {
        "interfaces": sorted(entry.name for entry in Path("/sys/class/net").iterdir()),
        "virtio": sorted(int(file.read_text(), 16) for file in Path("/sys/bus/virtio/devices").glob("*/device")),
        "network cards": [
            str(file) for file in Path("/sys/bus/pci/devices").glob("*/class") if file.read_text().startswith("0x02")
        ],
        "disks": sorted(e.name for e in Path("/sys/block").iterdir() if not e.name.startswith(("loop", "ram"))),
        "vsock": _came_to(connect_to_the_host),
        "through the overlay": _came_to(lambda: write(path)),
        "seen through the overlay": path.read_text(),
    }
    take_the_overlay_away()
    said["seen below"] = path.read_text()
    _demand(_libc.mount(b"none", b"/", None, _MS_REMOUNT, None))  # without MS_RDONLY
    said["mount"] = mount_of_root()
    said["below"] = {name: _came_to(attempt) for name, attempt in attempts_on(path).items()}
    print(json.dumps(said))


if __name__ == "__main__":
    main()

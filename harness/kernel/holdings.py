# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel holds for the cases, and what of it this process has a descriptor of.

Sockets, network namespaces, and BPF objects. No interface tells the numbers that groups have (`reuseport_ida`): a group
that is lost with its number is seen by a kernel of the flavour kmemleak alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.loader.bindings import BpfError, library
from harness.wire.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIOCGSKNS = 0x894C  # include/uapi/linux/sockios.h: a descriptor of the socket's network namespace
_DESCRIPTORS = Path("/proc/self/fd")
_NET = Path("/proc/thread-self/net")
_MOST_NAMESPACES = Path("/proc/sys/user/max_net_namespaces")
NAMESPACES_ARE_COUNTED = _MOST_NAMESPACES.exists()
_NOT_COUNTED = {"03", "06"}
"""States in /proc/net/tcp of what is no whole socket: a request (shown as SYN_RECV) and TIME_WAIT."""


class Bpf(StrEnum):
    """The kinds of BPF objects that have ids; the value is libbpf's word for it."""

    PROGRAM = "prog"
    MAP = "map"
    LINK = "link"


class SocketCount:
    """The number of sockets in the network namespace that is present when this is made, whatever their family.

    The kernel counts from sk_alloc() to the end of the last reference (sock_inuse_add(), net/core/sock.c): orphans and
    what waits in accept queues included, requests and TIME_WAIT not. The file stays open, as it is read after every
    case; `close` closes it.
    """

    def __init__(self) -> None:
        self._file = os.open(_NET / "sockstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """Return the number at this moment."""
        found = re.match(rb"sockets: used (\d+)", os.pread(self._file, 64, 0))
        assert found is not None, "/proc/net/sockstat begins with another line"
        return int(found[1])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def own_sockets() -> int:
    """Return how many sockets of the present network namespace this process has descriptors of."""
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    found = {each[1] for each in descriptors() if each[1].startswith("socket:") and _namespace_of(*each) == here}
    return len(found)


def _namespace_of(number: int, target: str) -> int | None:
    """Return the inode of the network namespace that a descriptor is of, or that its socket is in; None if neither."""
    if target.startswith("net:"):
        return os.fstat(number).st_ino
    if not target.startswith("socket:"):
        return None
    namespace = fcntl.ioctl(number, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


def own_namespaces() -> int:
    """Return how many network namespaces this process is in, has descriptors of, or has sockets in."""
    found = {entry.stat().st_ino for entry in Path("/proc/self/task").glob("*/ns/net")}
    return len(found | {inode for each in descriptors() if (inode := _namespace_of(*each)) is not None})


def more_namespaces_than(number: int) -> bool:
    """Tell whether there are more than so many network namespaces, beside the one that was there at boot.

    No interface tells their number. But the kernel counts a user's from unshare() until all of a namespace is freed
    (`cleanup_net`), and refuses one at the limit: for a moment the limit is that number, and one more is tried. Only
    where this process is alone on the kernel: others are refused, too, meanwhile.
    """
    before = _MOST_NAMESPACES.read_text()
    _MOST_NAMESPACES.write_text(f"{number + 1}\n")
    try:
        Namespace.create().close()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    finally:
        _MOST_NAMESPACES.write_text(before)
    return False


def sockets_of_connections() -> int:
    """Return how many TCP sockets of the present namespace belong to a connection and to no process.

    They are in an accept queue, or closed and not yet done with their peer.
    """
    lines = [line.split() for file in ("tcp", "tcp6") for line in (_NET / file).read_text().splitlines()[1:]]
    return sum(1 for line in lines if line[9] == "0" and line[3] not in _NOT_COUNTED)


def descriptors() -> Iterator[tuple[int, str]]:
    """Yield each descriptor of this process and what it leads to, such as "socket:[4711]"."""
    for entry in list(_DESCRIPTORS.iterdir()):
        try:
            yield int(entry.name), str(entry.readlink())
        except FileNotFoundError:  # the one that listed them
            continue


def bpf_ids(kind: Bpf, *, after: int = 0) -> Iterator[int]:
    """Yield the ids above `after` of the kernel's BPF objects of a kind, those of other processes included.

    None where the kernel gives objects of the kind no ids (links before 5.8). BpfError carries the kernel's errno.
    """
    found = ctypes.c_uint32(after)
    where = ctypes.byref(found)
    next_id = getattr(library(), f"bpf_{kind}_get_next_id")
    while not (refused := next_id(found, where)):
        yield found.value
    # Every case ends here three times: an error that is expected is not worth an exception.
    if -refused not in {errno.ENOENT, errno.EINVAL}:
        raise BpfError(-refused, f"list BPF objects ({kind})")


def own_bpf_ids(kind: Bpf) -> set[int]:
    """Return the ids of the BPF objects of a kind that this process has descriptors of."""
    ids = set()
    for number, target in descriptors():
        if target.startswith("anon_inode:bpf"):
            told = Path(f"/proc/self/fdinfo/{number}").read_text()
            ids |= {int(found) for found in re.findall(rf"^{kind}_id:\s*(\d+)$", told, re.MULTILINE)}
    return ids

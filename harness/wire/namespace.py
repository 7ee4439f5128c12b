# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Network namespaces without a name: they end with the process that made them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.loader.libc import check, libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace, kept by a file descriptor that `close` closes."""

    made = 0
    """How many this process has created."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def current(cls) -> Namespace:
        """Return the calling thread's namespace."""
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def create(cls) -> Namespace:
        """Create a namespace and stay in the present one; OSError (EPERM) without CAP_SYS_ADMIN."""
        before = cls.current()
        try:
            check(libc.unshare(_CLONE_NEWNET), "unshare a network namespace")
            made = cls.current()
            Namespace.made += 1
        finally:
            before.enter()
            before.close()
        return made

    def enter(self) -> None:
        """Move the calling thread into the namespace for good."""
        check(libc.setns(self.fd, _CLONE_NEWNET), "enter a network namespace")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Enter the namespace until the context ends; sockets opened in it belong to it as long as they live."""
        before = Namespace.current()
        try:
            self.enter()
            yield
        finally:
            before.enter()
            before.close()

    def close(self) -> None:
        """Close the file descriptor; the namespace lives as long as sockets or threads are in it."""
        os.close(self.fd)


def write_sysctl(name: str, value: int) -> None:
    """Set a sysctl of the present namespace, named with slashes, and read it back.

    Raises OSError if the kernel has no such name or refuses the value, RuntimeError if it keeps another one.
    """
    path = Path("/proc/sys") / name
    path.write_text(f"{value}\n")
    if (kept := int(path.read_text())) != value:
        raise RuntimeError(f"{name} is {kept} after {value} was written")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A cgroup of this process alone, for programs that are attached to cgroups."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.loader.bindings import call
from harness.loader.libc import check, libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTEMPTS = 1000


@contextmanager
def program_on_own_sockets(program_fd: int, attach_type: int) -> Iterator[None]:
    """Attach a program to the sockets that this process makes until the context ends.

    The process is moved to a cgroup (v2) of its own for that time, and nobody else's sockets are touched. Raises
    OSError without CAP_SYS_ADMIN or without cgroups, BpfError where the kernel refuses the program.
    """
    with ExitStack() as undo:
        top = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="reuseport-cgroup-")))
        check(libc.mount(b"none", bytes(top), b"cgroup2", 0, None), "mount cgroup2")
        undo.callback(lambda: check(libc.umount2(bytes(top), 2), "unmount cgroup2"))  # MNT_DETACH
        before = _of_this_process()
        own = top / top.name
        own.mkdir()
        undo.callback(_remove, own)
        _enter(own)
        undo.callback(_enter, top / before.lstrip("/"))
        directory = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, directory)
        call("attach a program to a cgroup", "bpf_prog_attach", program_fd, directory, attach_type, 0)
        yield


def _of_this_process() -> str:
    (line,) = (line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return line.removeprefix("0::")


def _remove(cgroup: Path) -> None:
    """Remove a cgroup; a thread that has just ended may be in it for a moment, and OSError (EBUSY) is raised later."""
    for _ in range(_ATTEMPTS):
        try:
            cgroup.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)
        else:
            return
    cgroup.rmdir()


def _enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find out how much memory is free for VMs on this machine, or in this container."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEBI = 1 << 20

# Where the two versions of control groups are mounted, and what their files are called (Documentation/admin-guide/
# cgroup-v2.rst, cgroup-v1/memory.rst): limit, use, and in memory.stat the part of the use that is freed on demand.
_GROUPS = (
    (r"^0::(.*)$", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        r"^\d+:[^:]*\bmemory\b[^:]*:(.*)$",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available(*, swap: bool = False, root: Path = Path("/")) -> int:
    """Return the MiB that new processes can use, free `swap` included or not; proc/ and sys/ are read below `root`.

    It is MemAvailable of proc_meminfo(5), or what control groups leave, if that is less.
    """
    told = dict(re.findall(r"^(\w+): +(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE))
    free = int(told.get("MemAvailable", 0)) + (int(told.get("SwapFree", 0)) if swap else 0)
    return min([free // 1024, *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the MiB that each control group of this process has left."""
    try:
        groups = (root / "proc/self/cgroup").read_text()
    except OSError:
        return
    for line, mount, limit, use, returned in _GROUPS:
        for group in re.findall(line, groups, re.MULTILINE):
            directory = Path(group.lstrip("/"))
            for place in (directory, *directory.parents):
                # No limit is "max", or no file; in a container the group's own directory is the mount.
                with contextlib.suppress(OSError, ValueError):
                    most = int((root / mount / place / limit).read_text())
                    used = int((root / mount / place / use).read_text())
                    counted = (root / mount / place / "memory.stat").read_text()
                    back = re.search(rf"^{returned} (\d+)$", counted, re.MULTILINE)
                    yield max(0, most - used + (int(back[1]) if back else 0)) // _MEBI

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is held at one moment of a soak: memory, descriptors, sockets and BPF objects."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from harness.kernel.holdings.bpf import Bpf, bpf_ids

_MEMINFO = Path("/proc/meminfo")
_FREE_CACHES = Path("/proc/sys/vm/drop_caches")
_FILES = Path("/proc/sys/fs/file-nr")
_SOCKETS = Path("/proc/self/net/sockstat")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one kernel holds after a round of cases; memory in KiB."""

    seconds: float  # since the first round began
    used: int  # MemTotal - MemAvailable of proc_meminfo(5), after the caches were dropped
    unreclaimable: int  # SUnreclaim: slabs that cannot be given back, such as those of sockets
    percpu: int  # of maps, programs and network namespaces
    files: int  # open files of the whole kernel: the first number of file-nr, proc_sys_fs(5)
    sockets: int  # of the namespace in which the rounds begin
    programs: int
    maps: int
    links: int
    host: int = 0  # resident memory of QEMU and of the command that runs it, which the machine under the guest measures

    def to_json(self) -> dict[str, Any]:
        """Return what a line of the file holds of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises TypeError for other fields."""
        return cls(**content)


def take(*, seconds: float) -> Sample:
    """Return what the running kernel holds; what it only caches is dropped first, which needs root."""
    _FREE_CACHES.write_text("3")
    memory = {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)}
    sockets = re.match(r"sockets: used (\d+)", _SOCKETS.read_text())
    assert sockets is not None, f"{_SOCKETS} begins with another line"
    return Sample(
        seconds=round(seconds, 1),
        used=memory["MemTotal"] - memory["MemAvailable"],
        unreclaimable=memory["SUnreclaim"],
        percpu=memory.get("Percpu", 0),
        files=int(_FILES.read_text().split()[0]),
        sockets=int(sockets[1]),
        programs=sum(1 for _ in bpf_ids(Bpf.PROGRAM)),
        maps=sum(1 for _ in bpf_ids(Bpf.MAP)),
        links=sum(1 for _ in bpf_ids(Bpf.LINK)),
    )

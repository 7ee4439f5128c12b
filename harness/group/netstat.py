# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Counters of the present network namespace (/proc/net/netstat, /proc/net/snmp)."""

from __future__ import annotations

from pathlib import Path


def counters(*names: str) -> dict[str, int]:
    """Return counters by their names; KeyError for one that the kernel has not."""
    found: dict[str, int] = {}
    for file in ("netstat", "snmp"):
        lines = Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
        for heads, values in zip(lines[::2], lines[1::2], strict=True):
            found |= zip(heads.split()[1:], map(int, values.split()[1:]), strict=True)
    return {name: found[name] for name in names}

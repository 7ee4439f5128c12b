# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Counters of the present network namespace: those of TCP, UDP and IP that nstat(8) prints, by its names."""

from __future__ import annotations

from pathlib import Path


def counter(name: str) -> int:
    """Return a counter, such as "TcpExtTCPMigrateReqSuccess" or "Udp6NoPorts"; KeyError if the kernel lacks it.

    Those of /proc/net/netstat and /proc/net/snmp are named after their line and their column, others as in snmp6.
    """
    found: dict[str, int] = {}
    directory = Path("/proc/thread-self/net")
    for file in ("netstat", "snmp"):
        lines = [line.split() for line in (directory / file).read_text().splitlines()]
        for (group, *names), (_, *values) in zip(lines[::2], lines[1::2], strict=True):
            found |= {group.rstrip(":") + each: int(value) for each, value in zip(names, values, strict=True)}
    for line in (directory / "snmp6").read_text().splitlines():
        each, value = line.split()
        found[each] = int(value)
    return found[name]

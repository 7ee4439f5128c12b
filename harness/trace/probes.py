# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where the witness stands in the kernel: functions by name, with what each version calls them.

Only functions that other files of the kernel call, or that are reached through a pointer, are named: for those the
compiler must keep them. For callers of the same file it may still inline them, as it does with the accept queue,
which therefore has a second point. Of their arguments only the first three are read, which are the same from 5.3 to
7.3. Of the static ones (`clone` below) none is read, so that a compiler's copy of them will do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Name one place of the selection path and the functions of harness/trace/witness.c that belong there."""

    tells: str
    """What a story lacks without it."""
    symbols: tuple[str, ...]
    """What the function is called, the newest name first; the first that the kernel has is taken."""
    enter: str = ""
    leave: str = ""
    since: tuple[int, int] = (5, 3)
    """The release that introduced it: on an older one it is not missed."""
    clone: bool = False
    """Whether a copy that the compiler made (NAME.isra.0, NAME.constprop.0) may stand for it."""


PROBES = (
    Probe(tells="the arrival of UDP over IPv4", symbols=("udp_rcv",), enter="on_udp", leave="on_received"),
    Probe(tells="the arrival of UDP over IPv6", symbols=("udpv6_rcv",), enter="on_udp", leave="on_received"),
    Probe(tells="the arrival of TCP over IPv4", symbols=("tcp_v4_rcv",), enter="on_tcp", leave="on_received"),
    Probe(tells="the arrival of TCP over IPv6", symbols=("tcp_v6_rcv",), enter="on_tcp", leave="on_received"),
    Probe(tells="the lookup of UDP over IPv4", symbols=("__udp4_lib_lookup",), enter="on_udp4_lookup"),
    Probe(tells="the lookup of UDP over IPv6", symbols=("__udp6_lib_lookup",), enter="on_udp6_lookup"),
    Probe(tells="the lookup of TCP over IPv4", symbols=("__inet_lookup_listener",), enter="on_tcp4_lookup"),
    Probe(tells="the lookup of TCP over IPv6", symbols=("inet6_lookup_listener",), enter="on_tcp6_lookup"),
    Probe(
        tells="the group and the socket that it selected",
        symbols=("reuseport_select_sock",),
        enter="on_select",
        leave="on_selected",
    ),
    Probe(tells="the program's verdict", symbols=("bpf_run_sk_reuseport",), leave="on_program_end"),
    Probe(
        tells="what bpf_sk_select_reuseport answered",
        symbols=("sk_select_reuseport",),
        enter="on_helper",
        leave="on_helper_end",
    ),
    Probe(
        tells="the migration of connections",
        symbols=("reuseport_migrate_sock",),
        enter="on_migrate",
        leave="on_migrated",
        since=(5, 14),
    ),
    Probe(
        tells="the receive queue of UDP",
        symbols=("__udp_enqueue_schedule_skb",),
        enter="on_queue",
        leave="on_queued",
    ),
    Probe(tells="the request that a SYN leaves", symbols=("inet_csk_reqsk_queue_hash_add",), enter="on_request"),
    Probe(tells="the accept queue", symbols=("inet_csk_reqsk_queue_add",), enter="on_accept_queue"),
    Probe(
        tells="the end of a handshake",
        symbols=("inet_csk_complete_hashdance",),
        enter="on_complete",
        leave="on_completed",
    ),
    Probe(tells="the SYN cookie over IPv4", symbols=("cookie_v4_init_sequence",), enter="on_cookie_sent"),
    Probe(tells="the SYN cookie over IPv6", symbols=("cookie_v6_init_sequence",), enter="on_cookie_sent"),
    Probe(tells="the ACK with a SYN cookie", symbols=("tcp_get_cookie_sock",), enter="on_cookie_taken"),
    Probe(tells="the ICMP error over IPv4", symbols=("__icmp_send",), enter="on_icmp"),
    Probe(tells="the ICMP error over IPv6", symbols=("icmp6_send",), enter="on_icmp"),
    Probe(tells="the RST over IPv4", symbols=("tcp_v4_send_reset",), enter="on_reset", clone=True),
    Probe(tells="the RST over IPv6", symbols=("tcp_v6_send_reset",), enter="on_reset", clone=True),
)

DROP_TRACEPOINT = "kfree_skb"


def locate(point: Probe, symbols: bytes) -> str | None:
    """Return the name that the kernel whose /proc/kallsyms is `symbols` has for the point, None if it has none."""
    for name in point.symbols:
        copy = rb"(?:\.(?:isra|constprop)\.\d+)*" if point.clone else b""
        if found := re.search(rb" [tT] (" + re.escape(name.encode()) + copy + rb")\n", symbols):
            return found[1].decode()
    return None

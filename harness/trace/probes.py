# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's functions that the tracers probe, by the names that releases have for them.

Most are called from other files of the kernel or through a pointer, so the compiler must keep them. It may still inline
them for callers in the same file, as it does with the accept queue, which therefore has a second probe. Of their
arguments only the first three are read, which are the same from 5.3 to 7.3. The static functions (`clone` below) may
exist as a copy with other arguments, so none of theirs is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One function of the kernel, and the functions of the tracer that run when it is entered and left."""

    shows: str
    """What a story lacks without it."""
    symbols: tuple[str, ...]
    """The function's names, newest first; the first one that the kernel has is probed."""
    enter: str = ""
    leave: str = ""
    since: tuple[int, int] = (5, 3)
    """The release that introduced the function; on an older one it is not reported as missing."""
    clone: bool = False
    """Whether a copy that the compiler made (NAME.isra.0, NAME.constprop.0) may be probed instead."""


PROBES = (
    Probe(shows="the arrival of UDP over IPv4", symbols=("udp_rcv",), enter="on_udp", leave="on_received"),
    Probe(shows="the arrival of UDP over IPv6", symbols=("udpv6_rcv",), enter="on_udp", leave="on_received"),
    Probe(shows="the arrival of TCP over IPv4", symbols=("tcp_v4_rcv",), enter="on_tcp", leave="on_received"),
    Probe(shows="the arrival of TCP over IPv6", symbols=("tcp_v6_rcv",), enter="on_tcp", leave="on_received"),
    Probe(shows="the lookup of UDP over IPv4", symbols=("__udp4_lib_lookup",), enter="on_udp4_lookup"),
    Probe(shows="the lookup of UDP over IPv6", symbols=("__udp6_lib_lookup",), enter="on_udp6_lookup"),
    Probe(shows="the lookup of TCP over IPv4", symbols=("__inet_lookup_listener",), enter="on_tcp4_lookup"),
    Probe(shows="the lookup of TCP over IPv6", symbols=("inet6_lookup_listener",), enter="on_tcp6_lookup"),
    Probe(
        shows="the group and the socket that it selected",
        symbols=("reuseport_select_sock",),
        enter="on_select",
        leave="on_selected",
    ),
    Probe(shows="the program's verdict", symbols=("bpf_run_sk_reuseport",), leave="on_program_end"),
    Probe(
        shows="what bpf_sk_select_reuseport answered",
        symbols=("sk_select_reuseport",),
        enter="on_helper",
        leave="on_helper_end",
    ),
    Probe(
        shows="the migration of connections",
        symbols=("reuseport_migrate_sock",),
        enter="on_migrate",
        leave="on_migrated",
        since=(5, 14),
    ),
    Probe(
        shows="the receive queue of UDP",
        symbols=("__udp_enqueue_schedule_skb",),
        enter="on_queue",
        leave="on_queued",
    ),
    Probe(shows="the request that a SYN leaves", symbols=("inet_csk_reqsk_queue_hash_add",), enter="on_request"),
    Probe(shows="the accept queue", symbols=("inet_csk_reqsk_queue_add",), enter="on_accept_queue"),
    Probe(
        shows="the end of a handshake",
        symbols=("inet_csk_complete_hashdance",),
        enter="on_complete",
        leave="on_completed",
    ),
    Probe(shows="the SYN cookie over IPv4", symbols=("cookie_v4_init_sequence",), enter="on_cookie_sent"),
    Probe(shows="the SYN cookie over IPv6", symbols=("cookie_v6_init_sequence",), enter="on_cookie_sent"),
    Probe(shows="the ACK with a SYN cookie", symbols=("tcp_get_cookie_sock",), enter="on_cookie_taken"),
    Probe(shows="the ICMP error over IPv4", symbols=("__icmp_send",), enter="on_icmp"),
    Probe(shows="the ICMP error over IPv6", symbols=("icmp6_send",), enter="on_icmp"),
    Probe(shows="the RST over IPv4", symbols=("tcp_v4_send_reset",), enter="on_reset", clone=True),
    Probe(shows="the RST over IPv6", symbols=("tcp_v6_send_reset",), enter="on_reset", clone=True),
)

DROP_TRACEPOINT = "kfree_skb"


def locate(probe: Probe, symbols: bytes) -> str | None:
    """Return the probed function's name in the kernel with this /proc/kallsyms, None if it has no such function."""
    for name in probe.symbols:
        copy = rb"(?:\.(?:isra|constprop)\.\d+)*" if probe.clone else b""
        if found := re.search(rb" [tT] (" + re.escape(name.encode()) + copy + rb")\n", symbols):
            return found[1].decode()
    return None

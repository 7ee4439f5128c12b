# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What kernels learnt after 5.3: each feature with the release that introduced it, and a probe that tries it.

A version number is not enough, since distributions backport features. A probe is not enough, since a feature that broke
would look like one that never was. So each feature has both, and `harness.plugins.gate` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.kernel import probes
from harness.kernel.release import Release, running
from harness.wire.master import has_vrf

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Something that a kernel can or cannot do."""

    name: str
    introduced: Release
    probe: Callable[[], bool]
    """Whether the running kernel can do it; raises OSError (EPERM) if this process may not try."""
    option: str = ""
    """The option of the kernel's configuration that it depends on, if kernels are often built without: its cases are
    skipped then. Empty: a kernel without the feature fails its cases."""
    summary: str
    """In one line: what it is, and the commit that introduced it."""


FEATURES = {
    feature.name: feature
    for feature in (
        Feature(
            name="sock_destroy",
            introduced=Release(4, 9),
            probe=probes.kills_sockets,
            summary="CONFIG_INET_DIAG_DESTROY: sockets are killed through sock_diag (5d77dca82839 for UDP)",
        ),
        Feature(
            name="vrf",
            introduced=Release(4, 3),
            probe=has_vrf,
            option="CONFIG_NET_VRF",
            summary="VRF devices: links under a master have routes of their own (193125dbd8eb)",
        ),
        Feature(
            name="select_from_sockmap",
            introduced=Release(5, 7),
            probe=probes.selects_from_sockmap,
            summary="bpf_sk_select_reuseport takes SOCKMAP and SOCKHASH",
        ),
        Feature(
            name="udp_in_sockmap",
            introduced=Release(5, 7),
            probe=probes.keeps_udp_in_sockmap,
            summary="SOCKMAP and SOCKHASH hold UDP sockets that are not connected (edc6741cc660)",
        ),
        Feature(
            name="group_id_at_creation",
            introduced=Release(5, 7),
            probe=probes.numbers_groups_at_once,
            summary="a group gets its number when it is created, not when a map takes its first member",
        ),
        Feature(
            name="sk_lookup",
            introduced=Release(5, 9),
            probe=probes.has_sk_lookup,
            summary="programs of type SK_LOOKUP choose the listener before the group does (e9ddbb7707ff)",
        ),
        Feature(
            name="free_inner_size",
            introduced=Release(5, 10),
            probe=probes.frees_inner_size,
            summary="an inner map's max_entries need not be the template's (134fede4eecf)",
        ),
        Feature(
            name="udp_segments_on_loopback",
            introduced=Release(5, 11),
            probe=probes.loops_segments_whole,
            summary="NETIF_F_GSO_SOFTWARE has UDP_L4: a UDP_SEGMENT send is no longer split before a software device",
        ),
        Feature(
            name="coarse_time",
            introduced=Release(5, 11),
            probe=probes.tells_coarse_time,
            summary="a program may ask for the time of the last tick (bpf_ktime_get_coarse_ns)",
        ),
        Feature(
            name="select_or_migrate",
            introduced=Release(5, 14),
            probe=probes.checks_attach_type,
            summary="the attach type SELECT_OR_MIGRATE lets a program choose where requests migrate (d5e4ddaeb6ab)",
        ),
        Feature(
            name="migrating_sk",
            introduced=Release(5, 14),
            probe=probes.shows_migrating_socket,
            summary="the context names the socket that is being migrated (d5e4ddaeb6ab)",
        ),
        Feature(
            name="tcp_migrate_req",
            introduced=Release(5, 14),
            probe=probes.leaves_connections_to_others,
            summary="net.ipv4.tcp_migrate_req moves requests of a closed listener to another (f9ac779f881c)",
        ),
        Feature(
            name="get_socket_cookie",
            introduced=Release(5, 14),
            probe=probes.gives_socket_cookie,
            summary="a program may ask for its socket's cookie (e061047684af)",
        ),
        Feature(
            name="reuseport_from_bpf",
            introduced=Release(6, 1),
            probe=probes.sets_reuseport_from_bpf,
            summary="bpf_setsockopt() knows SO_REUSEPORT (29003875bd5b)",
        ),
        Feature(
            name="mptcp",
            # fd1452d8ef00 is of 5.9, but Debian's 5.10 is configured without MPTCP.
            introduced=Release(6, 1),
            probe=probes.has_mptcp,
            summary="MPTCP listeners share a port by SO_REUSEPORT (fd1452d8ef00; CONFIG_MPTCP)",
        ),
        Feature(
            name="udp_child_hash_entries",
            introduced=Release(6, 2),
            probe=probes.has_own_udp_tables,
            summary="a network namespace may have UDP tables of its own (9804985bf27f)",
        ),
        Feature(
            name="store_release",
            introduced=Release(6, 15),
            probe=probes.has_store_release,
            summary="load-acquire and store-release are instructions (880442305a39)",
        ),
    )
}
"""Every feature that a case may require, by name."""


@cache
def present(name: str) -> bool:
    """Return whether the running kernel has the feature; its probe runs once."""
    return FEATURES[name].probe()


def expected(name: str, *, release: Release | None = None) -> bool:
    """Return whether kernels of a release, by default the running one, have to have the feature."""
    return (release or running()) >= FEATURES[name].introduced


def conceivable(name: str) -> bool:
    """Return whether this kernel has the feature or should have it: cases that need it are generated only then."""
    return expected(name) or present(name)

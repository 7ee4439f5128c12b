# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The names of all transitions that the model notes, so that a campaign can say which it did not take. Pure.

A name is the kernel's function; what stands behind a colon tells its ways apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TRANSITIONS = (
    # groups.py
    "reuseport_alloc",
    "reuseport_alloc: the group is there",
    "reuseport_add_sock",
    "reuseport_add_sock: the other had no group",
    "reuseport_add_sock: EBUSY",
    "reuseport_grow",
    "reuseport_grow: a closed listener makes room",
    "reuseport_grow: ENOMEM",
    "reuseport_detach_sock",
    "reuseport_detach_sock: the last fills the hole",
    "reuseport_detach_sock: closed",
    "reuseport_stop_listen_sock",
    "reuseport_resurrect",
    "reuseport_resurrect: a new group",
    "reuseport_resurrect: another group",
    "reuseport_has_conns_set",
    "reuseport_update_incoming_cpu",
    "reuseport_attach_prog",
    "reuseport_attach_prog: replaced",
    "reuseport_attach_prog: EINVAL, no SO_REUSEPORT",
    "reuseport_attach_prog: EINVAL, no group",
    "reuseport_detach_prog",
    "reuseport_detach_prog: no group",
    "reuseport_detach_prog: closed",
    "reuseport_detach_prog: ENOENT",
    "bpf_sk_reuseport_detach",
    # sockets.py
    "SO_REUSEPORT",
    "udp_lib_get_port",
    "udp_lib_get_port: EADDRINUSE",
    "udp_lib_lport_inuse2",
    "ip_datagram_connect",
    "ip_datagram_connect: again",
    "udp_lib_rehash",
    "udp_lib_rehash: same address",
    "udp_lib_hash4",
    "udp_lib_hash4: moved",
    "udp_lib_hash4: not moved",
    "udp_rehash4",
    "udp_unhash4",
    "__udp_disconnect",
    "__udp_disconnect: was connected",
    "udp_lib_unhash",
    "sk_incoming_cpu_update",
    # listeners.py
    "__inet_hash",
    "inet_unhash",
    "reuseport_migrate_sock",
    "reuseport_migrate_sock: nobody",
    "reuseport_migrate_sock: SK_PASS",
    "reuseport_migrate_sock: SK_DROP",
    # requests.py
    "inet_csk_reqsk_queue_hash_add",
    "inet_csk_reqsk_queue_is_full",
    "tcp_rcv_state_process: TCP_CLOSE",
    "tcp_v4_send_reset",
    "tcp_fastopen_create_child",
    "tcp_synq_overflow",
    "cookie_v4_check",
    "cookie_v4_check: none",
    "tcp_check_req",
    "tcp_check_req: migrated",
    "inet_csk_reqsk_queue_drop",
    "inet_csk_reqsk_queue_drop: migrating",
    "inet_csk_reqsk_queue_drop_and_put",
    # slots.py
    "reuseport_array_update",
    "reuseport_array_update: replaced",
    "reuseport_array_update: E2BIG",
    "reuseport_array_update: EEXIST",
    "reuseport_array_update: ENOENT",
    "reuseport_array_update: EINVAL",
    "reuseport_array_update: EBUSY",
    "reuseport_array_update: ENOTSUPP",
    "reuseport_array_delete",
    "reuseport_array_delete: E2BIG",
    "reuseport_array_delete: ENOENT",
    # sockmap.py
    "sock_map_update_common",
    "sock_map_sk_state_allowed",
    "sock_map_update_common: E2BIG",
    "sock_map_update_common: EBUSY",
    "sock_map_update_common: EEXIST",
    "sock_map_update_common: ENOENT",
    "sock_map_delete_elem",
    "sock_map_delete_elem: EINVAL",
    "sock_map_remove_links",
    # slots.py, of the outer map
    "bpf_fd_array_map_update_elem",
    "bpf_fd_array_map_update_elem: was empty",
    "__fd_array_map_delete_elem",
    "__fd_array_map_delete_elem: ENOENT",
    # lookup.py
    "udp_early_demux",
    "udp_lib_lookup4",
    "udp_lib_lookup2: scored again",
    "run_bpf_filter",
    "run_bpf_filter: no such place",
    "bpf_run_sk_reuseport: SK_DROP",
    "array_of_map_lookup_elem: nothing there",
    "sk_select_reuseport",
    "sk_select_reuseport: empty",
    "sk_select_reuseport: another group",
    "reuseport_select_sock_by_hash",
    "reuseport_select_sock_by_hash: of this CPU",
    "reuseport_select_sock_by_hash: no CPU",
    "reuseport_select_sock_by_hash: all connected",
)


def not_taken(taken: Mapping[str, int], transitions: Sequence[str] = TRANSITIONS) -> list[str]:
    """Return the transitions that were not taken, in the order of the model's modules."""
    return [name for name in transitions if not taken.get(name)]

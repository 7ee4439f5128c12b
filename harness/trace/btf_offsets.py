# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The fields of the kernel's structures that the tracers read, and their offsets from its type information (BTF)."""

from __future__ import annotations

from harness.loader.btf import VMLINUX, Types

FIELDS = {
    "SOCK_COOKIE": ("sock", "__sk_common.skc_cookie"),
    "SOCK_NET": ("sock", "__sk_common.skc_net"),
    "SOCK_STATE": ("sock", "__sk_common.skc_state"),
    "SOCK_HASH": ("sock", "__sk_common.skc_hash"),
    "SOCK_PORT": ("sock", "__sk_common.skc_num"),
    "SOCK_SOCKET": ("sock", "sk_socket"),
    "SOCK_GROUP": ("sock", "sk_reuseport_cb"),
    "SOCKET_INODE": ("socket_alloc", "vfs_inode.i_ino"),
    "NET_NUMBER": ("net", "ns.inum"),
    "SKB_DEVICE": ("sk_buff", "dev"),
    "SKB_HEAD": ("sk_buff", "head"),
    "SKB_NETWORK": ("sk_buff", "network_header"),
    "SKB_TRANSPORT": ("sk_buff", "transport_header"),
    "SKB_LENGTH": ("sk_buff", "len"),
    "DEVICE_NET": ("net_device", "nd_net"),
    "GROUP_MEMBERS": ("sock_reuseport", "num_socks"),
    "GROUP_CLOSED": ("sock_reuseport", "num_closed_socks"),
    "GROUP_ID": ("sock_reuseport", "reuseport_id"),
    "GROUP_PROGRAM": ("sock_reuseport", "prog"),
    "PROGRAM_TYPE": ("bpf_prog", "type"),
    "PROGRAM_AUX": ("bpf_prog", "aux"),
    "AUX_ID": ("bpf_prog_aux", "id"),
    "CONTEXT_SELECTED": ("sk_reuseport_kern", "selected_sk"),
    "MAP_ID": ("bpf_map", "id"),
    "MAP_TYPE": ("bpf_map", "map_type"),
    "MAP_KEY_SIZE": ("bpf_map", "key_size"),
}
"""Macro of harness/trace/fields.h: structure, field."""

OPTIONAL = frozenset({"GROUP_CLOSED"})
"""Fields that only newer kernels have (5.14)."""


def defines() -> tuple[str, ...]:
    """Return the offsets in bytes as `MACRO=OFFSET`, by the kernel's type information.

    Empty if it has none, or lacks a field: fields.h then takes the offsets from the headers. That takes ten times
    longer to compile, and an older bcc cannot compile the headers of kernels from 7.0 on.
    """
    if not VMLINUX.exists():
        return ()
    types = Types()
    try:
        found = {name: types.offset(*field) for name, field in FIELDS.items()}
    finally:
        types.close()
    if any(offset is None for name, offset in found.items() if name not in OPTIONAL):
        return ()
    return ("HAS_FIELDS", *(f"{name}={offset}" for name, offset in found.items() if offset is not None))

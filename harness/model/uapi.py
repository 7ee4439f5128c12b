# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Constants of the kernel's user interface that Python's own modules lack, each with the header it comes from."""

from __future__ import annotations

# include/uapi/asm-generic/socket.h
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_LOCK_FILTER = 44
SO_ATTACH_BPF = 50
SO_ATTACH_REUSEPORT_CBPF = 51
SO_ATTACH_REUSEPORT_EBPF = 52
SO_COOKIE = 57
SO_DETACH_REUSEPORT_BPF = 68

# include/uapi/linux/in.h
IPPROTO_MPTCP = 262

# include/linux/socket.h
SOL_PACKET = 263

# include/uapi/linux/if_packet.h
PACKET_IGNORE_OUTGOING = 23

# include/uapi/linux/if_ether.h
ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_8021Q = 0x8100
ETH_P_IPV6 = 0x86DD

# include/uapi/linux/tcp.h
TCP_FASTOPEN_KEY = 33

# include/uapi/linux/udp.h
UDP_SEGMENT = 103
UDP_GRO = 104

# include/uapi/linux/icmp.h, include/uapi/linux/icmpv6.h
ICMP_ECHOREPLY, ICMP_DEST_UNREACH, ICMP_ECHO = 0, 3, 8
ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB = 11, 12
ICMP_NET_UNREACH, ICMP_PROT_UNREACH, ICMP_PORT_UNREACH, ICMP_FRAG_NEEDED = 0, 2, 3, 4
ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE, ICMPV6_PORT_UNREACH = 1, 0, 4
ICMPV6_PARAMPROB = 4
ICMPV6_HDR_FIELD, ICMPV6_UNK_NEXTHDR, ICMPV6_UNK_OPTION, ICMPV6_HDR_INCOMP = 0, 1, 2, 3

# The byte of flags in a TCP header (RFC 9293, section 3.1)
TCP_FIN, TCP_SYN, TCP_RST, TCP_PSH, TCP_ACK, TCP_URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

# include/uapi/linux/bpf.h: flags of bpf(BPF_MAP_UPDATE_ELEM)
BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
# flags of bpf(BPF_MAP_CREATE)
BPF_F_MMAPABLE = 1 << 10

# include/uapi/linux/bpf.h: enum bpf_attach_type
BPF_CGROUP_SOCK_OPS = 3
BPF_CGROUP_INET4_BIND = 8
BPF_CGROUP_INET6_BIND = 9
BPF_SK_LOOKUP = 36
BPF_XDP = 37
BPF_SK_REUSEPORT_SELECT = 39
BPF_SK_REUSEPORT_SELECT_OR_MIGRATE = 40

MAP_TYPE = {
    "hash": 1,
    "array": 2,
    "percpu_hash": 5,
    "percpu_array": 6,
    "lru_hash": 9,
    "lpm_trie": 11,
    "array_of_maps": 12,
    "hash_of_maps": 13,
    "sockmap": 15,
    "sockhash": 18,
    "sockarray": 20,
}
"""enum bpf_map_type (include/uapi/linux/bpf.h) by our names; a sockarray is a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY."""

MAP_KIND = {number: name for name, number in MAP_TYPE.items()}
"""Our names by enum bpf_map_type."""

MAP_FLAG = {
    "no_prealloc": 1 << 0,
    "rdonly": 1 << 3,
    "wronly": 1 << 4,
    "rdonly_prog": 1 << 7,
    "wronly_prog": 1 << 8,
    "mmapable": BPF_F_MMAPABLE,
    "inner_map": 1 << 12,
}
"""BPF_F_*, flags of bpf(BPF_MAP_CREATE) (include/uapi/linux/bpf.h), by our names."""

PROGRAM_TYPE = {
    "socket_filter": 1,
    "sched_cls": 3,
    "xdp": 6,
    "sock_ops": 13,
    "cgroup_sock_addr": 18,
    "sk_reuseport": 21,
    "sk_lookup": 30,
}
"""enum bpf_prog_type (include/uapi/linux/bpf.h) by our names."""

ENOTSUPP = 524
"""include/linux/errno.h: the kernel's own errno, which no header of user space has."""

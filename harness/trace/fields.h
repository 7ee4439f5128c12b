/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The offsets of the kernel's fields that the tracers read. Where the kernel carries its type information,
 * harness/trace/btf_offsets.py defines them, and no header of the networking stack has to be compiled. Without it they
 * come from the headers.
 */
#include <uapi/linux/ptrace.h>

#ifndef HAS_FIELDS
#include <linux/skbuff.h>
#include <linux/netdevice.h>
#include <linux/filter.h>
#include <net/sock.h>
#include <net/sock_reuseport.h>

#define SOCK_COOKIE offsetof(struct sock, __sk_common.skc_cookie)
#define SOCK_NET offsetof(struct sock, __sk_common.skc_net)
#define SOCK_STATE offsetof(struct sock, __sk_common.skc_state)
#define SOCK_HASH offsetof(struct sock, __sk_common.skc_hash)
#define SOCK_PORT offsetof(struct sock, __sk_common.skc_num)
#define SOCK_SOCKET offsetof(struct sock, sk_socket)
#define SOCK_GROUP offsetof(struct sock, sk_reuseport_cb)
#define SOCKET_INODE offsetof(struct socket_alloc, vfs_inode.i_ino)
#define NET_NUMBER offsetof(struct net, ns.inum)
#define SKB_DEVICE offsetof(struct sk_buff, dev)
#define SKB_HEAD offsetof(struct sk_buff, head)
#define SKB_NETWORK offsetof(struct sk_buff, network_header)
#define SKB_TRANSPORT offsetof(struct sk_buff, transport_header)
#define SKB_LENGTH offsetof(struct sk_buff, len)
#define DEVICE_NET offsetof(struct net_device, nd_net)
#define GROUP_MEMBERS offsetof(struct sock_reuseport, num_socks)
#ifdef HAS_CLOSED
#define GROUP_CLOSED offsetof(struct sock_reuseport, num_closed_socks)
#endif
#define GROUP_ID offsetof(struct sock_reuseport, reuseport_id)
#define GROUP_PROGRAM offsetof(struct sock_reuseport, prog)
#define PROGRAM_TYPE offsetof(struct bpf_prog, type)
#define PROGRAM_AUX offsetof(struct bpf_prog, aux)
#define AUX_ID offsetof(struct bpf_prog_aux, id)
#define CONTEXT_SELECTED offsetof(struct sk_reuseport_kern, selected_sk)
#define MAP_ID offsetof(struct bpf_map, id)
#define MAP_TYPE offsetof(struct bpf_map, map_type)
#define MAP_KEY_SIZE offsetof(struct bpf_map, key_size)
#endif

#define GROUP_FLAGS (GROUP_ID + 4) /* two bits that follow the id: bind_inany, has_conns */

/* The value of type TYPE at offset FIELD of what BASE points to; 0 if the memory cannot be read. */
#define AT(TYPE, BASE, FIELD)                                                             \
	({                                                                                \
		TYPE value_ = 0;                                                          \
		bpf_probe_read_kernel(&value_, sizeof(value_), (void *)(BASE) + (FIELD)); \
		value_;                                                                   \
	})

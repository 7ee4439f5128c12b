// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes of the witness: a packet reaches its protocol. */

static __always_inline int arrive(u64 skb, u32 protocol)
{
	struct state *s = current_state();
	struct event *event;
	u64 head, network, transport;

	if (!s)
		return 0;
	s->skb = 0;
	s->selecting = 0;
	if (!traced(AT(u64, AT(u64, skb, SKB_DEVICE), DEVICE_NET)))
		return 0;
	s->skb = skb;
	event = begin(ARRIVED, skb);
	if (!event)
		return 0;
	head = AT(u64, skb, SKB_HEAD);
	network = head + AT(u16, skb, SKB_NETWORK);
	transport = head + AT(u16, skb, SKB_TRANSPORT);
	event->length = AT(u32, skb, SKB_LENGTH);
	event->detail = AT(u8, network, 0) >> 4;
	event->protocol = protocol;
	if (event->detail == 4) {
		bpf_probe_read_kernel(event->source, 4, (void *)network + 12);
		bpf_probe_read_kernel(event->destination, 4, (void *)network + 16);
	} else {
		bpf_probe_read_kernel(event->source, 16, (void *)network + 8);
		bpf_probe_read_kernel(event->destination, 16, (void *)network + 24);
	}
	bpf_probe_read_kernel(event->ports, 4, (void *)transport);
	if (protocol == 6)
		event->flags = AT(u8, transport, 13);
	return 0;
}

int on_udp(struct pt_regs *ctx)
{
	return arrive(PT_REGS_PARM1(ctx), 17);
}

int on_tcp(struct pt_regs *ctx)
{
	return arrive(PT_REGS_PARM1(ctx), 6);
}

int on_received(struct pt_regs *ctx)
{
	struct state *s = current_state();

	if (s)
		s->skb = 0;
	return 0;
}

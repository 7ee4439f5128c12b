# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A veth pair: send frames to the server's end and read the replies.

The far end lies in a namespace without addresses: nothing there answers to replies, and every reply can be read. No
time-out decides that a packet was dropped. A ping follows the frames through one queue on one CPU, first in first out:
when it is answered, every frame before it has been decided and every reply to them has been read.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2 import Ethtool, IPRoute

from harness.model.layout import Family
from harness.wire import frames
from harness.wire.batch import HELD, message_buffers, portions
from harness.wire.headers import PEER_MAC, SERVER_MAC
from harness.wire.master import TABLE, add_master
from harness.wire.namespace import Namespace, write_sysctl
from harness.wire.packet_socket import open_packet_socket, wait_at_most
from harness.wire.replies import Echo, parse
from harness.wire.sysctls import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.model.outcome import Reply

SERVER_LINK, _PEER_LINK = "veth-server", "veth-peer"

_OFFLOADS = (
    "rx-checksumming", "tx-checksumming", "generic-receive-offload", "generic-segmentation-offload",
    "tcp-segmentation-offload", "scatter-gather",
)  # fmt: skip
"""Switched off, so that a frame arrives as it was sent: checksums are verified, nothing is merged or split."""

_SERVER_SYSCTLS = {
    # An ICMP error for every drop: no rate limit, neither per destination nor for the whole namespace. IPv6's mask is
    # a list of the types that are limited. It cannot be empty, and the kernel sends no type 255.
    "net/ipv4/icmp_ratemask": 0,
    "net/ipv6/icmp/ratelimit": 0,
    "net/ipv6/icmp/ratemask": 255,
    # Addresses can be used at once.
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/rp_filter": 0,
}

_INGRESS = "ffff:fff2"
"""The parent of clsact's filters for what arrives (TC_H_CLSACT, TC_H_MIN_INGRESS)."""

_LOST_SECONDS = 300.0 if os.environ.get("KSFT_MACHINE_SLOW") == "yes" else 30.0
"""How long the ping may take before the wire counts as broken; a working one answers in microseconds.

The kernel's selftests say by KSFT_MACHINE_SLOW that a kernel has debugging on, or is emulated.
"""

_NO_ANSWER = (
    f"the ping behind the frames did not come back within {_LOST_SECONDS:.0f} s: the veth pair, or the CPU that serves "
    "it, is stuck"
)

_MANY = 1024
"""Replies after which the ping is sent again; the frames of a case have fewer."""

_ANSWERED_SECONDS = 0.1
"""After this time the first ping is sent again."""

_REMEMBERED = 256
"""Frames that are kept to show them where a case fails."""


class SeenFrame(NamedTuple):
    """One frame that was on the wire: when (seconds since 1970), whether to the server, its bytes, what came of it."""

    at: float
    sent: bool
    data: bytes
    note: str = ""


class WireError(Exception):
    """The wire itself failed, which says nothing about the kernel's selection."""


class Wire:
    """Two namespaces and the veth pair between them; the calling thread moves to the server's.

    It sends on `cpu`, by default the first of those that the thread may use; `under_vrf` puts the server's end under a
    VRF device. Raises OSError (EPERM) without CAP_NET_ADMIN and CAP_SYS_ADMIN; everything is undone then.
    """

    def __init__(self, *, cpu: int | None = None, under_vrf: bool = False) -> None:
        self._sequence = 0
        self.seen: deque[SeenFrame] = deque(maxlen=_REMEMBERED)
        """The last frames, without the pings; `send_many` leaves its frames out."""
        self.names: dict[int, str] = {}
        """What cases call the sockets at the server's end, by their cookies."""
        self._affinity = os.sched_getaffinity(0)
        home = min(self._affinity) if cpu is None else cpu
        with ExitStack() as undo:
            self._outside = Namespace.current()
            undo.callback(self._outside.close)
            # On one CPU the backlog queue keeps the order of frames, ping and replies.
            os.sched_setaffinity(0, {home})
            undo.callback(os.sched_setaffinity, 0, self._affinity)
            self.server = Namespace.create()
            undo.callback(self.server.close)
            self.peer = Namespace.create()
            undo.callback(self.peer.close)
            with self.peer.inside():
                write_sysctl("net/ipv6/conf/default/disable_ipv6", 1)
            self.server.enter()
            undo.callback(self._outside.enter)
            for name, value in _SERVER_SYSCTLS.items():
                write_sysctl(name, value)
            self._connect(under_vrf=under_vrf)
            self.settings = Settings(cpu=home)
            with self.peer.inside():
                self._socket = open_packet_socket(_PEER_LINK, seconds=_LOST_SECONDS)
            undo.callback(self._socket.close)
            self._wait_until_links_send()
            undo.pop_all()

    def close(self) -> None:
        """Leave both namespaces; the veth pair and all settings go with them."""
        self._socket.close()
        self._outside.enter()
        os.sched_setaffinity(0, self._affinity)
        for namespace in (self.server, self.peer, self._outside):
            namespace.close()

    @contextmanager
    def on_cpu(self, cpu: int) -> Iterator[None]:
        """Send on another CPU, on which every program runs then, until the context ends."""
        before = self.settings.cpu
        try:
            os.sched_setaffinity(0, {cpu})
            self.settings.cpu = cpu
            yield
        finally:
            os.sched_setaffinity(0, {before})
            self.settings.cpu = before

    @contextmanager
    def at_ingress(self, program_fd: int) -> Iterator[None]:
        """Let a program of type sched_cls see what arrives at the server's end, before any lookup, until the end."""
        index = socket.if_nametoindex(SERVER_LINK)
        with IPRoute() as links:
            links.tc("add", "clsact", index)
            try:
                links.tc(
                    "add-filter", "bpf", index, ":1", fd=program_fd, name="ingress", parent=_INGRESS, classid=1,
                    direct_action=True,
                )  # fmt: skip
                yield
            finally:
                links.tc("del", "clsact", index)

    @property
    def cpus(self) -> list[int]:
        """Return the CPUs that the wire may be bound to."""
        return sorted(self._affinity)

    def post_many(self, data: Sequence[bytes]) -> None:
        """Send frames of one length in order and return at once; they are decided when a later `send` returns."""
        message_buffers(len(data[0])).send(self._socket, data)

    def post(self, data: Iterable[bytes]) -> None:
        """Send the frames in order and return at once; they are decided when a later `send` returns."""
        for frame in data:
            self._socket.send(frame)
            self.seen.append(SeenFrame(time.time(), True, frame))

    def send(self, data: Iterable[bytes]) -> list[Reply]:
        """Send the frames in order; return the replies once every frame has been decided. WireError if that fails."""
        self.post(data)
        first = self._ping()
        replies: list[Reply] = []
        until: float | None = None
        while True:
            try:
                data_received = self._socket.recv(65536)
                reply = parse(data_received)
            except BlockingIOError:
                raise WireError(_NO_ANSWER) from None
            if isinstance(reply, Echo):
                # The first ping's, or that of one that was sent after it.
                if (reply.sequence - first) & 0xFFFF <= (self._sequence - first) & 0xFFFF:
                    return replies
            elif reply is not None:
                self.seen.append(SeenFrame(time.time(), False, data_received))
                replies.append(reply)
                if not len(replies) % _MANY:
                    # Another thread sends all the while, and where its replies fill the socket, the ping's is lost.
                    if until is None:
                        until = time.monotonic() + _LOST_SECONDS
                    elif time.monotonic() > until:
                        raise WireError(_NO_ANSWER)
                    self._ping()

    def read_replies(self) -> list[Reply]:
        """Return the replies to whatever was done since the last call, once all of them have come."""
        return self.send(())

    def note(self, text: str) -> None:
        """Say of the last frame what came of it and those before it: where the packet is, and what was expected."""
        if self.seen:
            self.seen[-1] = self.seen[-1]._replace(note=text)

    def send_many(self, data: Sequence[bytes]) -> Iterator[list[Reply]]:
        """Send frames of one length; yield the replies to each `batch.HELD` of them once they have been decided.

        The caller empties the receivers in between: none of them has to hold everything.
        """
        buffers = message_buffers(len(data[0]))
        for held in portions(data, HELD):
            replies = []
            for portion in portions(held):
                buffers.send(self._socket, portion)
                replies += self.read_replies()
            yield replies

    def _ping(self) -> int:
        """Send the next ping and return its sequence number."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._socket.send(frames.ping(self._sequence))
        return self._sequence

    def _connect(self, *, under_vrf: bool) -> None:
        with IPRoute() as links:
            links.link(
                "add", ifname=SERVER_LINK, kind="veth", address=SERVER_MAC,
                peer={"ifname": _PEER_LINK, "address": PEER_MAC, "net_ns_fd": self.peer.fd},
            )  # fmt: skip
            index = _index(links, SERVER_LINK)
            routes: dict[str, int] = {}
            if under_vrf:
                links.link("set", index=index, master=add_master(links))
                routes["table"] = TABLE
            for family, prefix in ((Family.IPV4, 24), (Family.IPV6, 64)):
                links.addr("add", index=index, address=family.server, prefixlen=prefix)
            for name in ("lo", SERVER_LINK):
                links.link("set", index=_index(links, name), state="up")
            for family in Family:
                # Nothing answers ARP or neighbour solicitations for the crafted sender.
                links.neigh(
                    "add", family=family.address_family, ifindex=index, dst=family.peer,
                    lladdr=PEER_MAC, state="permanent",
                )  # fmt: skip
                # Replies to any other source address that a packet may have go the same way.
                links.route("add", family=family.address_family, gateway=family.peer, oif=index, **routes)
        _switch_offloads_off(SERVER_LINK)
        with self.peer.inside():
            with IPRoute() as links:
                links.link("set", index=_index(links, _PEER_LINK), state="up")
            _switch_offloads_off(_PEER_LINK)

    def _wait_until_links_send(self) -> None:
        """Ping until an answer comes: what leaves a link that has just come up may be dropped, without an error.

        A worker of the kernel has to see that the other end is up (linkwatch_do_dev(), net/core/link_watch.c) before
        the link gets a queue, and on a busy machine the worker is late. WireError if no ping is ever answered.
        """
        until = time.monotonic() + _LOST_SECONDS
        wait_at_most(self._socket, _ANSWERED_SECONDS)
        while True:
            try:
                self.send(())
                break
            except WireError:
                if time.monotonic() > until:
                    raise
        wait_at_most(self._socket, _LOST_SECONDS)


def _index(links: Any, name: str) -> int:
    (index,) = links.link_lookup(ifname=name)
    return int(index)


def _switch_offloads_off(link: str) -> None:
    with Ethtool() as tool:
        for name in _OFFLOADS:
            tool.set_offload_flag(link, name, 0)

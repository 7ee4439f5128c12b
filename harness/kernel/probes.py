# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The probes of the features: each tries on the running kernel what its name says.

Those that need sockets try them on the loopback of a network namespace of their own. Each raises OSError (EPERM) if
this process may not try.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.loader import instructions as bpf
from harness.loader.bindings import BpfError
from harness.loader.cgroup import program_on_own_sockets
from harness.loader.load import load_instructions
from harness.loader.maps import Map, create_map, create_outer_map
from harness.model.layout import Family, Protocol
from harness.model.uapi import (
    BPF_CGROUP_INET4_BIND,
    BPF_SK_LOOKUP,
    BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
    BPF_XDP,
    IPPROTO_MPTCP,
    SO_ATTACH_REUSEPORT_EBPF,
    UDP_GRO,
    UDP_SEGMENT,
)
from harness.wire.namespace import Namespace
from harness.wire.sock_diag import kill, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTEXT_SK, _CONTEXT_MIGRATING_SK = 40, 48  # offsets in struct sk_reuseport_md
_KTIME_GET_COARSE_NS = 160  # enum bpf_func_id (include/uapi/linux/bpf.h)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def selects_from_sockmap() -> bool:
    """Return whether the verifier lets bpf_sk_select_reuseport take a sockmap."""
    with closing(create_map("sockmap", max_entries=1)) as sockmap:
        return _loads(bpf.select(sockmap.fd, 0) + bpf.verdict(1))


def keeps_udp_in_sockmap() -> bool:
    """Return whether a sockmap takes a UDP socket that is bound but not connected."""
    with _loopback(), closing(create_map("sockmap", max_entries=1)) as sockmap, _member() as bound:
        try:
            sockmap.put(0, bound.fileno())
        except BpfError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            return False
        return True


def checks_attach_type() -> bool:
    """Return whether SELECT_OR_MIGRATE is known: it is accepted, and an attach type of other programs is not.

    Older kernels accept any, without looking (`bpf_prog_load_check_attach`).
    """
    passes = bpf.verdict(1)
    return _loads(passes, attach_type=BPF_SK_REUSEPORT_SELECT_OR_MIGRATE) and not _loads(passes, attach_type=BPF_XDP)


def shows_migrating_socket() -> bool:
    """Return whether a program may read `migrating_sk` of its context."""
    return _loads(bpf.load(8, bpf.R6, bpf.R1, _CONTEXT_MIGRATING_SK) + bpf.verdict(1))


def leaves_connections_to_others() -> bool:
    """Return whether net.ipv4.tcp_migrate_req works: 5.10's stable series has the sysctl without effect."""
    with _loopback():
        sysctl = Path("/proc/sys/net/ipv4/tcp_migrate_req")
        if not sysctl.exists():
            return False
        sysctl.write_text("1")
        with _member(socket.SOCK_STREAM) as one:
            one.listen()
            with _member(socket.SOCK_STREAM, port=one.getsockname()[1]) as other, socket.socket() as client:
                other.listen()
                client.connect(one.getsockname())
                poll = select.poll()
                poll.register(one, select.POLLIN)
                poll.register(other, select.POLLIN)
                ((first, _),) = poll.poll()
                closing_one, target = (one, other) if first == one.fileno() else (other, one)
                poll.unregister(closing_one)
                closing_one.close()  # inet_csk_listen_stop() moves or resets what was not accepted
                return poll.poll(0) == [(target.fileno(), select.POLLIN)]


def numbers_groups_at_once() -> bool:
    """Return whether a group that was never in a map has a number: the helper answers EBADFD for a foreign socket."""
    with (
        _loopback(),
        closing(create_map("sockarray", max_entries=1)) as sockarray,
        _member() as foreign,
        _member() as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sockarray.put(0, foreign.fileno())
        # If the answer is EBADFD the program passes, and the one member receives; if not, the sender gets an error.
        program = bpf.select(sockarray.fd, 0) + bpf.skip_if_equal(bpf.R0, -errno.EBADFD, 2)
        fd = load_instructions("sk_reuseport", program + bpf.verdict(0) + bpf.verdict(1))
        try:
            receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, fd)
        finally:
            os.close(fd)
        sender.connect(receiver.getsockname())
        sender.send(b"?")
        poll = select.poll()
        poll.register(receiver, select.POLLIN)
        poll.register(sender, select.POLLERR)
        return receiver.fileno() in {fd for fd, _ in poll.poll()}


def frees_inner_size() -> bool:
    """Return whether an inner map may have another max_entries than the outer map's template."""
    with (
        closing(create_map("sockarray", max_entries=1)) as template,
        closing(create_map("sockarray", max_entries=2)) as larger,
        closing(create_outer_map(template)) as outer,
    ):
        return _accepts(outer, larger)


def gives_socket_cookie() -> bool:
    """Return whether a program may ask for the cookie of `ctx->sk`."""
    return _loads(bpf.load(8, bpf.R1, bpf.R1, _CONTEXT_SK) + bpf.call(bpf.GET_SOCKET_COOKIE) + bpf.verdict(1))


def has_sk_lookup() -> bool:
    """Return whether programs of type SK_LOOKUP exist."""
    return _loads(bpf.verdict(1), kind="sk_lookup", attach_type=BPF_SK_LOOKUP)


def loops_segments_whole() -> bool:
    """Return whether loopback delivers a UDP_SEGMENT send in one piece, as a socket with UDP_GRO receives it."""
    with _loopback(), _member() as receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sender.connect(receiver.getsockname())
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 10)
        sender.send(bytes(30))
        return len(receiver.recv(30)) == 30


def has_own_udp_tables() -> bool:
    """Return whether a namespace decides the size of its children's UDP tables."""
    return Path("/proc/sys/net/ipv4/udp_child_hash_entries").exists()


def sets_reuseport_from_bpf() -> bool:
    """Return whether a program on a cgroup may set SO_REUSEPORT on a socket that binds."""
    set_option = bpf.set_option(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1) + bpf.verdict(1)
    if not _loads(set_option, kind="cgroup_sock_addr", attach_type=BPF_CGROUP_INET4_BIND):
        return False
    program = load_instructions("cgroup_sock_addr", set_option, attach_type=BPF_CGROUP_INET4_BIND)
    try:
        with _loopback(), program_on_own_sockets(program, BPF_CGROUP_INET4_BIND), socket.socket() as asks_not:
            asks_not.bind(("127.0.0.1", 0))
            return bool(asks_not.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
    finally:
        os.close(program)


def kills_sockets() -> bool:
    """Return whether sock_diag kills a socket on request, as `ss -K` asks it to."""
    with _loopback(), _member() as victim:
        port = victim.getsockname()[1]
        try:
            (found,) = listed(Protocol.UDP, Family.IPV4, port)
            kill(Protocol.UDP, Family.IPV4, found.id)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.ENOENT}:
                raise
            return False
        return True


def tells_coarse_time() -> bool:
    """Return whether a program may call bpf_ktime_get_coarse_ns()."""
    return _loads(bpf.call(_KTIME_GET_COARSE_NS) + bpf.verdict(1))


def has_store_release() -> bool:
    """Return whether the verifier knows the atomic instruction store-release."""
    return _loads(bpf.move(bpf.R6, 1) + bpf.store_release(bpf.R10, bpf.R6, -8) + bpf.verdict(1))


def has_mptcp() -> bool:
    """Return whether MPTCP sockets exist, and two of them may listen on one port with SO_REUSEPORT."""
    try:
        with _loopback(), _member(socket.SOCK_STREAM, protocol=IPPROTO_MPTCP) as one:
            one.listen()
            with _member(socket.SOCK_STREAM, protocol=IPPROTO_MPTCP, port=one.getsockname()[1]) as other:
                other.listen()
    except OSError as error:
        if error.errno not in {errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EADDRINUSE}:
            raise
        return False
    return True


def _accepts(outer: Map, inner: Map) -> bool:
    try:
        outer.put(0, inner.fd)
    except BpfError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _loads(program: bytes, *, kind: str = "sk_reuseport", attach_type: int = 0) -> bool:
    try:
        os.close(load_instructions(kind, program, attach_type=attach_type))
    except BpfError as error:
        if error.errno not in {errno.EINVAL, errno.EACCES}:
            raise
        return False
    return True


def _member(kind: socket.SocketKind = socket.SOCK_DGRAM, *, port: int = 0, protocol: int = 0) -> socket.socket:
    """Return a new member of the group on a port; 0: of a new group, on a port that the kernel picks."""
    made = socket.socket(socket.AF_INET, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


@contextmanager
def _loopback() -> Iterator[None]:
    """Stay in a new network namespace whose loopback is up until the context ends."""
    with closing(Namespace.create()) as made, made.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = bytearray(struct.pack("16sH14x", b"lo", 0))
            fcntl.ioctl(control, _SIOCGIFFLAGS, request)
            (flags,) = struct.unpack_from("=H", request, 16)
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
        yield

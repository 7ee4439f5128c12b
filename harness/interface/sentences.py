# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The words for the steps of a packet: a heading for how a path begins, a sentence for each step. Pure."""

from __future__ import annotations

import errno
import os
from typing import assert_never

from harness.interface.steps import (
    CookieAccepted,
    CookieSent,
    Dropped,
    GroupFound,
    HashComputed,
    HelperCalled,
    IcmpSent,
    ListenerClosed,
    Migrated,
    MigrationStarted,
    NoPacket,
    PacketArrived,
    ProgramReturned,
    Queued,
    RequestKept,
    ResetSent,
    SocketLookup,
    SocketSelected,
    Start,
    Step,
)


class SocketName(str):
    """A part of a sentence that names a socket."""

    __slots__ = ()


class Code(str):
    """A part of a sentence that is a name or a value of the kernel: a function, a constant, a number."""

    __slots__ = ()


Sentence = tuple[str, ...]
"""The parts of a sentence, one after the other: plain words, and parts to set apart where there is a way to."""


def heading(start: Start) -> str:
    """Return how a path begins, in one line."""
    match start:
        case PacketArrived():
            what = f"{start.protocol} {start.tcp_flags}".rstrip()
            source = _endpoint(start.source, start.source_port)
            return f"{what} {source} > {_endpoint(start.destination, start.destination_port)}, len {start.length}"
        case ListenerClosed():
            return "a listener closes"
        case NoPacket():
            return "outside of any packet"
        case _:
            assert_never(start)


def topic(step: Step) -> str:
    """Return what a step is about, in one word of at most nine letters."""
    match step:
        case CookieSent() | CookieAccepted():
            return "cookie"
        case IcmpSent() | ResetSent():
            return "answered"
        case _:
            return step.kind


def sentence(step: Step) -> Sentence:  # noqa: PLR0912  # a table
    """Return the sentence for a step; its parts joined are the text."""
    match step:
        case SocketLookup():
            sought = "socket" if step.protocol == "UDP" else "listener"
            return f"{step.protocol} over {step.family} looks for a {sought} (", Code(step.function), ")"
        case GroupFound():
            return _group(step)
        case HashComputed():
            return Code(f"{step.value:#010x}"), f", which points at position {step.position} of {step.members}"
        case HelperCalled():
            call = Code(f"bpf_sk_select_reuseport({step.map_type} {step.map_id}, key {step.key})")
            if step.socket is None:
                return call, f" = {step.result} ({_errno(-step.result)})"
            return call, f" = {step.result}: ", SocketName(step.socket)
        case ProgramReturned():
            if step.verdict == "SK_DROP":
                return "not ", Code("SK_PASS"), ": drop"
            if step.socket is None:
                return Code("SK_PASS"), ", and no socket selected"
            return Code("SK_PASS"), " with ", SocketName(step.socket)
        case SocketSelected():
            return _selected(step)
        case Queued():
            by = ", by fast open" if step.fast_open else ""
            return f"on the {step.queue} queue of ", SocketName(step.socket), by
        case RequestKept():
            return "kept for ", SocketName(step.socket), ", answered with a SYN-ACK"
        case CookieSent():
            return ("no request is kept: answered with a SYN cookie",)
        case CookieAccepted():
            return "valid in this ACK: a request is made from it for ", SocketName(step.socket)
        case MigrationStarted():
            state = Code(step.state)
            return "a connection in ", state, " looks for another listener than ", SocketName(step.socket)
        case Migrated():
            return ("to none: it is given up",) if step.socket is None else ("to ", SocketName(step.socket))
        case Dropped():
            if step.reason is None:
                return "in ", Code(step.function), "; this kernel gives no reason"
            return Code(step.reason), " in ", Code(step.function)
        case IcmpSent():
            which = "port unreachable" if step.port_unreachable else f"type {step.type} code {step.code}"
            return (f"with ICMP {which}",)
        case ResetSent():
            return ("with RST",)
        case _:
            assert_never(step)


def _group(step: GroupFound) -> Sentence:
    bound = "any address" if step.any_address else "one address"
    size = f"id {step.id}: {step.members} member{'s' * (step.members != 1)} bound to {bound}"
    closed = f" and {step.closed} closed" if step.closed else ""
    connected = ", some of them connected" if step.connected else ""
    if step.program_type is None:
        return (f"{size}{closed}{connected}; no program is attached",)
    which = Code(step.program_type)
    if step.program_id:
        return f"{size}{closed}{connected}; program {step.program_id} (", which, ") decides"
    return f"{size}{closed}{connected}; a ", which, " program decides"


def _selected(step: SocketSelected) -> Sentence:
    socket = SocketName(step.socket or "no socket")
    match step.by:
        case "program":
            return socket, ", by the program"
        case "hash":
            return socket, ", by the hash"
        case "hash after program":
            return socket, ", by the hash: the program selected none"
        case "classic program or hash":
            return socket, ", by the position that the program returned or, where there is no such member, by the hash"
        case "drop":
            return ("none: the packet is to be dropped",)
        case "lookup":
            return ("none: the lookup goes on with the socket that it had found",)
        case _:
            assert_never(step.by)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _errno(number: int) -> str:
    known = errno.errorcode.get(number)
    return f"{known}: {os.strerror(number)}" if known else f"errno {number}"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""IPv4's options: net/ipv4/ip_options.c `__ip_options_compile`. Pure."""

from __future__ import annotations

from enum import Enum

_END, _NOTHING, _RECORD_ROUTE, _TIMESTAMP, _LOOSE, _STRICT, _ALERT = 0, 1, 7, 68, 131, 137, 148
_FIRST = 20
_STAMP_ALONE, _STAMP_AND_ADDRESS, _STAMP_PRESCRIBED = 0, 1, 3  # IPOPT_TS_*


class Verdict(Enum):
    """What options come to."""

    GOOD = "good"
    BAD = "bad"
    SOURCE_ROUTE = "source route"


def parse(header: bytes) -> Verdict:
    """`__ip_options_compile`, and in `ip_rcv_options` that source routes are not accepted.

    CIPSO is not in it.
    """
    seen: set[int] = set()
    at = _FIRST
    while at < len(header):
        kind = header[at]
        if kind == _END:
            break
        if kind == _NOTHING:
            at += 1
            continue
        left = len(header) - at
        if left < 2 or not 2 <= header[at + 1] <= left:
            return Verdict.BAD
        option = header[at : at + header[at + 1]]
        name = _LOOSE if kind == _STRICT else kind
        if not _is_good(name, option) or (name in seen and name in _ONCE):
            return Verdict.BAD
        seen.add(name)
        at += len(option)
    return Verdict.SOURCE_ROUTE if _LOOSE in seen else Verdict.GOOD


_ONCE = {_LOOSE, _RECORD_ROUTE, _TIMESTAMP}


def _is_good(kind: int, option: bytes) -> bool:
    length = len(option)
    if kind == _LOOSE:
        return length >= 3 and option[2] >= 4
    if kind == _RECORD_ROUTE:
        return length >= 3 and option[2] >= 4 and (option[2] > length or option[2] + 3 <= length)
    if kind == _TIMESTAMP:
        return length >= 4 and option[2] >= 5 and _is_good_timestamp(option)
    return kind != _ALERT or length >= 4


def _is_good_timestamp(option: bytes) -> bool:
    pointer, flag = option[2], option[3] & 15
    if pointer <= len(option):
        room = 7 if flag in {_STAMP_AND_ADDRESS, _STAMP_PRESCRIBED} else 3
        return pointer + room <= len(option)
    # full: the number of hosts that found no room is counted in four bits
    return flag == _STAMP_PRESCRIBED or option[3] >> 4 != 15

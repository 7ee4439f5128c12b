# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Addresses as bytes and as text. Pure, and cached: a run converts the same few addresses thousands of times."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def spelled(address: bytes) -> str:
    """Return an address of 4 or 16 bytes as text; ValueError for any other length."""
    return str(ipaddress.ip_address(address))


@lru_cache(maxsize=4096)
def packed(address: str) -> bytes:
    """Return the bytes of an address in network order; ValueError if it is none."""
    return ipaddress.ip_address(address).packed

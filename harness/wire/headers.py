# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Addresses, lengths and offsets of the headers in frames. Pure."""

from __future__ import annotations

from harness.model.layout import Family, Protocol

SERVER_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:09"

ETHERNET_HEADER = 14
IP_HEADER = {Family.IPV4: 20, Family.IPV6: 40}
"""Bytes of the network header, without options and extension headers."""

CHECKSUM_AT = {Protocol.UDP: 6, Protocol.TCP: 16}
"""Offset of the checksum in the transport header."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A VRF device: a link that is put under it has routes of its own (Documentation/networking/vrf.rst)."""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING

from harness.wire.namespace import Namespace

if TYPE_CHECKING:
    from pyroute2 import IPRoute

MASTER_LINK = "vrf-server"
TABLE = 10
"""The routing table of the links that are under it."""


def add_master(links: IPRoute) -> int:
    """Make the VRF device in the present namespace, let it come up, and return its index."""
    links.link("add", ifname=MASTER_LINK, kind="vrf", vrf_table=TABLE)
    (index,) = links.link_lookup(ifname=MASTER_LINK)
    links.link("set", index=index, state="up")
    return int(index)


def has_vrf() -> bool:
    """Return whether the running kernel makes VRF devices; raises OSError (EPERM) if this process may not try."""
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415  # seconds under emulation, for those who ask alone

    with closing(Namespace.create()) as made, made.inside(), IPRoute() as links:
        try:
            add_master(links)
        except NetlinkError as error:
            if error.code != errno.EOPNOTSUPP:
                raise
            return False
    return True

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A worker without cases, for a kernel that is given up: a worker that died instead would be replaced by xdist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.controller.link import LOOK_EVERY
from vm.controller.xdist_protocol import finished_without_cases, ready_without_cases

if TYPE_CHECKING:
    from vm.controller.link import Link


def be_idle(link: Link) -> None:
    """Keep to xdist's protocol with no cases at all, until the run ends."""
    for message in ready_without_cases():
        link.send(*message)
    while not link.stop.wait(LOOK_EVERY) and not link.is_shut_down():
        pass
    link.send(*finished_without_cases())

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A worker without cases, for a kernel that is given up: a worker that died instead would be replaced by xdist."""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING

from vm.controller.link import LOOK_EVERY

if TYPE_CHECKING:
    from vm.controller.link import Link


def be_idle(link: Link) -> None:
    """Keep to xdist's protocol (xdist.remote.WorkerInteractor) with no cases at all, until the run ends."""
    info = {
        "version": sys.version,
        "version_info": tuple(sys.version_info),
        "sysplatform": sys.platform,
        "platform": platform.platform(),
        "executable": sys.executable,
        "cwd": os.getcwd(),  # noqa: PTH109  # a string, which is what travels
    }
    link.send("workerready", {"workerinfo": info})
    link.send("collectionfinish", {"topdir": os.getcwd(), "ids": []})  # noqa: PTH109
    while not link.stop.wait(LOOK_EVERY) and not link.is_shut_down():
        pass
    link.send("workerfinished", {"workeroutput": {"exitstatus": 0, "shouldfail": False, "shouldstop": False}})

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the user asked for, and the workers that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from vm.boot.acceleration import Acceleration
    from vm.boot.options import GuestOptions
    from vm.remote.hosts import Host

KERNEL_VARIABLE = "REUSEPORT_KERNEL"
"""The name of the kernel, in the environment of its worker; also in its gateway's specification, which xdist copies
when it replaces a worker."""

LOST_VMS = 4
"""VMs that a kernel may lose before the rest of its cases is given up; --max-worker-restart changes it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of a run in VMs."""

    kernels: dict[str, str]  # by name, the word that selects each of them
    timeout: float  # seconds without news after which a VM is ended
    acceleration: Acceleration | None
    options: GuestOptions
    mirror: str | None
    vms: int | None  # at once on each host
    lost_vms: int
    hosts: dict[str, Host | None]  # where each kernel runs; None: on this machine
    parts: list[str]  # files and directories of the project that have to be the same there


def local_worker(kernel: str) -> str:
    """Return execnet's specification of a worker on this machine for `kernel`."""
    return f"popen//id={kernel}//env:{KERNEL_VARIABLE}={kernel}"


def kernel_of(node: Any) -> str:
    """Return the name of a worker's kernel."""
    return str(node.gateway.spec.env[KERNEL_VARIABLE])


def plugins_of(config: pytest.Config) -> list[str]:
    """Return the names of the installed plugins that a worker in a guest needs.

    Those that are loaded here, except hypothesis's: at the end of every run it imports all of hypothesis.
    """
    plugins = [getattr(plugin, "__name__", "") for plugin, _ in config.pluginmanager.list_plugin_distinfo()]
    return [name for name in plugins if name and not name.startswith("_hypothesis")]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the user asked for, and the workers that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from vm.boot.acceleration import Acceleration
    from vm.boot.options import GuestOptions
    from vm.kernels.counted import CountedKernel
    from vm.remote.hosts import Host

KERNEL_VARIABLE, NUMBER_VARIABLE = "REUSEPORT_KERNEL", "REUSEPORT_VM"
"""The name of the kernel, and the number of its VM, in the environment of its worker; also in its gateway's
specification, which xdist copies when it replaces a worker."""

LOST_VMS = 4
"""VMs that a kernel may lose before the rest of its cases is given up; --max-worker-restart changes it."""


@dataclass(frozen=True)
class Vm:
    """One of the VMs of a kernel that may run at once, from 1; one that replaces another has its number."""

    kernel: str
    number: int = 1


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
    hosts: dict[str, Host | None]  # where the first VM of each kernel runs; None: on this machine
    other_hosts: dict[str, tuple[Host | None, ...]]  # where further ones may run, besides
    parts: list[str]  # files and directories of the project that have to be the same there
    counted: dict[str, CountedKernel] = field(default_factory=dict)  # by name, those whose counts are wanted


def local_worker(vm: Vm) -> str:
    """Return execnet's specification of a worker on this machine for a VM; that of a further one has no name yet."""
    name = f"//id={vm.kernel}" if vm.number == 1 else ""
    return f"popen{name}//env:{KERNEL_VARIABLE}={vm.kernel}//env:{NUMBER_VARIABLE}={vm.number}"


def vm_of(node: Any) -> Vm:
    """Return a worker's VM."""
    environment = node.gateway.spec.env
    return Vm(str(environment[KERNEL_VARIABLE]), int(environment[NUMBER_VARIABLE]))


def kernel_of(node: Any) -> str:
    """Return the name of a worker's kernel."""
    return vm_of(node).kernel


def plugins_of(config: pytest.Config) -> list[str]:
    """Return the names of the installed plugins that a worker in a guest needs.

    Those that are loaded here, except hypothesis's: at the end of every run it imports all of hypothesis.
    """
    plugins = [getattr(plugin, "__name__", "") for plugin, _ in config.pluginmanager.list_plugin_distinfo()]
    return [name for name in plugins if name and not name.startswith("_hypothesis")]

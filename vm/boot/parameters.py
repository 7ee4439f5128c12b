# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The parameters of a guest's kernel: the harness's own, and those of --append. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.boot.acceleration import Acceleration

PORT = "reuseport.worker"
"""The name of the virtio-serial port between the guest's worker and the host."""
FOLLOWED = "reuseport.followed"
"""The tag by which a guest mounts the host's files a second time, without a cache."""

LONGEST = 2047
"""Characters that an x86 kernel takes; it cuts off the rest (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h)."""

BOOT_PARAMETERS = (
    "console=ttyS0",
    "earlyprintk=serial,ttyS0,115200",
    # Notices and worse: an emulated serial port is slow. `vm.guest.pid1` raises it when the cases begin.
    "loglevel=6",
    # Cases begin and end faster than the rate that /dev/kmsg admits.
    "printk.devkmsg=on",
    # Whatever stops the kernel ends the VM: with -no-reboot QEMU exits.
    "panic=-1",
    "oops=panic",
    "softlockup_panic=1",
    "hung_task_panic=1",
    # A busy host starves an emulated CPU for longer than the defaults (soft lockup after 20 s, RCU stall after 21 s).
    "watchdog_thresh=30",
    "rcupdate.rcu_cpu_stall_timeout=60",
    # An update of an outer map, or the end of a namespace, waits for a grace period: 10 ms each, most of what a case
    # takes where KVM works. Expedited ones are over at once, which also frees what a bug still uses the sooner.
    "rcupdate.rcu_expedited=1",
    # Counts ticks while it spins, and panics ("IO-APIC + timer doesn't work!") where the host gives it no time; a KVM
    # guest leaves it out by itself (kvm_guest_init).
    "no_timer_check",
    "nokaslr",
)

ONE_CPU_ONLINE = "maxcpus=1"
"""Under emulation the other CPUs wait offline for a case that needs them and writes 1 to cpuN/online.

Two emulated CPUs wait for each other's answers in busy loops: where the host has other work, a boot with both takes
twice the time. Offline they cost nothing.
"""

_TAKEN = {
    "console": "the kernel's messages have to arrive on ttyS0, where the harness reads them",
    "printk.devkmsg": "the marks between which a case's messages stand are written to /dev/kmsg",
    "rdinit": "the first process is the harness's own",
    "init": "the first process is the harness's own",
    "root": "the guest's root directory is the host's",
    "--": "what follows it is for the first process, which is the harness's own",
}
"""Parameters that --append cannot give, and why: without what they change nothing could be tested."""


def split(text: str) -> list[str]:
    """Return the parameters in `text`; blanks between double quotes are part of a parameter, as for the kernel.

    The rule is that of next_arg() in lib/cmdline.c. Raises ValueError for a quote that is not closed.
    """
    if text.count('"') % 2:
        raise ValueError("a double quote is not closed: all that follows it would be part of that parameter")
    return re.findall(r'(?:[^\s"]|"[^"]*")+', text)


def demand_harmless(text: str) -> None:
    """Raise ValueError for parameters with which a kernel could not be tested, or that it cannot be given."""
    if bad := next((character for character in text if not " " <= character <= "~"), None):
        raise ValueError(f"a kernel's parameters are printable ASCII on one line, and it has {bad!r}")
    for parameter in split(text):
        name = parameter.lstrip('"').partition("=")[0]
        # A kernel takes - and _ for the same.
        if why := _TAKEN.get(parameter) or _TAKEN.get(name.replace("-", "_")):
            raise ValueError(f"{name} is taken: {why}")
    needed = len(command_line("tcg", added=[text]))
    if needed > LONGEST:
        raise ValueError(f"with the harness's own that makes {needed} characters, and a kernel takes {LONGEST}")


def command_line(acceleration: Acceleration, *, added: Sequence[str]) -> str:
    """Return the parameters of a guest's kernel.

    Those `added` come after the harness's own, so they count if a parameter is there twice.
    """
    own = [*BOOT_PARAMETERS, *([ONE_CPU_ONLINE] if acceleration == "tcg" else [])]
    return " ".join([*own, *added, "rdinit=/init"])

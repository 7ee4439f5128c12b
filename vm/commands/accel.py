# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Print what is known about KVM on this machine: python -m vm accel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vm.boot import learnt
from vm.boot.acceleration import device, why_no_kvm
from vm.boot.qemu import find_qemu
from vm.commands.statuses import EXIT_USAGE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vm.boot.learnt import FileIdentity, Known, MachineIdentity


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `accel`."""
    parser = subparsers.add_parser(
        "accel",
        help="show whether kernels run under KVM on this machine, and how that is known",
        description="A kernel that does not boot under KVM is emulated in the same run. That is remembered for this "
        "machine and its kernel, this QEMU, and that kernel. As long as KVM has worked with no kernel, unknown ones "
        "are emulated too.",
    )
    parser.add_argument("--forget", action="store_true", help="forget what is remembered: the next run tries KVM again")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is known, or forget it."""
    if args.forget:
        try:
            count = learnt.forget()
        except OSError as error:
            print(f"error: what is remembered cannot be removed: {error}", file=sys.stderr)
            return EXIT_USAGE
        print(f"boots forgotten: {count}" if count else "there was nothing to forget")
        return 0
    machine, qemu = learnt.this_machine(), learnt.identify_file(find_qemu())
    for line in lines(learnt.recall(), machine=machine, qemu=qemu, why_not=why_no_kvm()):
        print(line)
    return 0


def lines(known: tuple[Known, ...], *, machine: MachineIdentity, qemu: FileIdentity, why_not: str) -> Iterator[str]:
    """Yield the lines to print; `why_not` says why KVM cannot be used, "" if it can."""
    yield f"machine  {', '.join(filter(None, (machine.processor, machine.board, f'Linux {machine.kernel}')))}"
    yield f"QEMU     {qemu.path}"
    yield f"KVM      {why_not or f'{device()} opens; whether it runs a kernel shows when one boots'}"
    here = [one for one in known if (one.boot.machine, one.boot.qemu) == (machine, qemu)]
    for one in here:
        kernel = " ".join((f"{one.boot.kernel.name} (Linux {one.boot.kernel.release})", *one.boot.append))
        yield f"{kernel}: {'works' if one.works else f'failed: {one.why}'}; since {one.when}"
    if others := len(known) - len(here):
        yield f"boots with another QEMU, another host kernel or on another machine, which do not count: {others}"
    if why_not:
        yield "so every kernel is emulated"
    elif not here:
        yield "nothing is known about any kernel: the next one is booted under KVM first"
    elif any(one.works for one in here):
        yield "so kernels with which KVM failed are emulated, and all others are booted under KVM first"
    else:
        yield "so every kernel is emulated: --accel kvm tries one again, 'python -m vm accel --forget' all"

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The options for a VM, --accel, --append, --memory and --cpus, as pytest and the commands of vm take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vm.base.errors import OptionError
from vm.boot.acceleration import why_no_kvm
from vm.boot.parameters import demand_harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST_MEMORY = 192
"""MiB with which cases run on Debian's 6.1: with 160 the kernel ends their worker, and with 64 it does not boot."""

MOST_CPUS = 255
"""Of the machine that QEMU makes for KVM (pc)."""

ACCEL_HELP = (
    "kvm: run the guest natively, and fail where KVM does not work; tcg: emulate it (default: KVM where it opens, and "
    "emulation where the kernel does not come up under KVM; 'python -m vm accel' tells what is known)"
)

_ADDED: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--append",
        {
            "action": "append",
            "default": [],
            "metavar": "'PARAMETERS'",
            "help": "parameters for the kernel, after the harness's own; may be given more than once. Those that take "
            "its console or its first process away are refused",
        },
    ),
    ("--memory", {"type": int, "metavar": "MIB", "help": "memory of a VM (default: 512)"}),
    ("--cpus", {"type": int, "metavar": "N", "help": "CPUs of a VM (default: 2)"}),
)


@dataclass(frozen=True, kw_only=True)
class GuestOptions:
    """A VM's memory and CPUs, and the parameters that the user adds for its kernel."""

    memory: int = 512  # MiB: all cases on Debian's 6.1 leave half of it, as docs/kernels.md says
    cpus: int = 2
    append: tuple[str, ...] = ()  # each as --append has it


def add_options(add: Callable[..., object]) -> None:
    """Add the options by `add`, the method of an argparse parser or of one of pytest's groups."""
    add("--accel", choices=["kvm", "tcg"], help=ACCEL_HELP)
    for name, how in _ADDED:
        add(name, **how)


def given(options: Any) -> list[str]:
    """Return which options of a VM's are among the parsed `options`."""
    return [name for name, _ in _ADDED if getattr(options, name.removeprefix("--")) not in (None, [])]


def read_options(*, append: Sequence[str] = (), memory: int | None = None, cpus: int | None = None) -> GuestOptions:
    """Return what the options say, None standing for what is not given. Raises OptionError."""
    for text in append:
        try:
            demand_harmless(text)
        except ValueError as error:
            raise OptionError(f"--append {text!r}: {error}") from None
    try:
        demand_harmless(" ".join(append))  # all of them may be too long together
    except ValueError as error:
        raise OptionError(f"--append: {error}") from None
    if memory is not None and memory < LEAST_MEMORY:
        raise OptionError(
            f"--memory {memory}: cases need {LEAST_MEMORY} MiB at least: with less the kernel ends their worker"
        )
    if cpus is not None and not 1 <= cpus <= MOST_CPUS:
        raise OptionError(f"--cpus {cpus}: a VM has at least one CPU and at most {MOST_CPUS}")
    default = GuestOptions()
    return GuestOptions(
        memory=default.memory if memory is None else memory,
        cpus=default.cpus if cpus is None else cpus,
        append=tuple(append),
    )


def demand_kvm(acceleration: str | None) -> None:
    """Raise OptionError if the user demands KVM and this machine has none."""
    if acceleration == "kvm" and (why := why_no_kvm()):
        raise OptionError(f"--accel kvm: {why}")

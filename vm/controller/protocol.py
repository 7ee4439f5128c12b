# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The messages between controller and relays, beside those of xdist."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from vm.boot.acceleration import Acceleration  # noqa: TC001  # a dataclass's field
from vm.boot.options import GuestOptions


class End(enum.StrEnum):
    """How a VM ended."""

    DONE = "done"  # its worker had finished
    STOPPED = "stopped"  # the run was ended
    LOST = "lost"  # it ended by itself: a panic, or QEMU
    HUNG = "hung"  # the watchdog ended it
    WORKER_DIED = "worker died"  # the kernel is up, its worker is not
    WORKER_FAILED = "worker failed"  # the kernel is up, and pytest there ended before its cases
    INFRASTRUCTURE = "infrastructure"  # it never came up, or pytest there ended before its first case


class Instruction(enum.StrEnum):
    """An instruction of the controller to a relay."""

    GO = "go"  # there is room for another VM
    STOP = "stop"
    RETIRE = "retire"  # end the VM, which there is nothing left for; the run goes on without it


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that a relay needs to know to run its kernel; part of the worker's input."""

    kernel: str
    word: str  # that selects the kernel, on another machine too
    directory: str | None  # the project on the relay's machine; None: that of the controller, on the same machine
    home: str  # the project's directory on the controller's machine
    fingerprint: str  # of that code
    timeout: float  # seconds without news
    acceleration: Acceleration | None
    options: GuestOptions
    mirror: str | None
    plugins: list[str]  # plugins of pytest that the guest's worker loads
    bytecode: str | None  # a file on the controller's machine where `vm.guest.bytecode` may put what guests import
    idle: bool  # be a worker without cases
    refusal: str  # why the kernel cannot run where it was to; "" if it can

    def to_message(self) -> dict[str, Any]:
        """Return what execnet can send."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """Return what was sent."""
        return cls(**{**message, "options": GuestOptions(**message["options"])})


@dataclass(frozen=True, kw_only=True)
class _Status:
    kind: ClassVar[str]

    def to_message(self) -> tuple[str, dict[str, Any]]:
        """Return what execnet can send."""
        return self.kind, {
            name: str(value) if isinstance(value, enum.Enum) else value for name, value in asdict(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Progress(_Status):
    """What the relay does at the moment."""

    kind = "progress"
    phase: str  # "fetching", "booting"
    detail: str


@dataclass(frozen=True, kw_only=True)
class Notice(_Status):
    """A line for the user that stays."""

    kind = "notice"
    line: str


@dataclass(frozen=True, kw_only=True)
class BootRequest(_Status):
    """The request to boot a VM."""

    kind = "boot request"
    host: str
    capacity: int  # VMs that this host takes at once
    seconds_before: float | None  # that the last VM of this kernel took to come up here; None: unknown, or it did not


@dataclass(frozen=True, kw_only=True)
class Booted(_Status):
    """The guest is up."""

    kind = "booted"
    release: str  # uname -r
    version: str  # the package's
    cmdline: str
    acceleration: str
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ending(_Status):
    """How the VM ended: a relay's last message."""

    kind = "ending"
    how: End
    why: str
    detail: str = ""  # the whole error, of several lines


@dataclass(frozen=True, kw_only=True)
class Alone(_Status):
    """Which cases need the machine to themselves; comes before xdist's message that they are collected."""

    kind = "alone"
    cases: tuple[str, ...]


Status = Progress | Notice | BootRequest | Booted | Alone | Ending

_KINDS: dict[str, type[Status]] = {kind.kind: kind for kind in (Progress, Notice, BootRequest, Booted, Alone, Ending)}


def read_status(message: tuple[str, Any]) -> Status | bytes:
    """Return what a relay sent: a status, or a part of the console."""
    kind, content = message
    if kind == "console":
        return bytes(content)
    if kind == Ending.kind:
        content = {**content, "how": End(content["how"])}
    return _KINDS[kind](**content)

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Remember with which kernels KVM works on this machine: acceleration.json in the cache.

An entry is about one machine, one QEMU and one kernel; when any of them changes it no longer counts. A file that is
damaged or cannot be read counts as empty; if it cannot be written, the next run tries KVM again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.interface.atomic import write_text
from vm.base.paths import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.kernels.kernel import Kernel

_SCHEMA = 2
_MOST = 200  # boots that are remembered: a bisection tries many kernels, each of them once
_SECONDS_TO_LOCK = 5

_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a file that holds something else may raise."""


@dataclass(frozen=True, kw_only=True)
class MachineIdentity:
    """What decides whether KVM works: the hardware and the host's kernel.

    The boot is not part of it: KVM that failed fails after a restart too, and CI systems that keep a cache start a
    machine for every job. Nor is the machine's name, which containers make up. Several machines may share a home
    directory. An outer hypervisor shows in the processor's flags and in the firmware's name of the board.
    """

    processor: str  # model name
    features: str  # digest of its family, model, stepping, microcode and flags
    board: str  # what the firmware says: vendor and product
    kernel: str  # release and build of the host's
    settings: str  # digest of the parameters of the kvm modules that are loaded


@dataclass(frozen=True, kw_only=True)
class FileIdentity:
    """What differs between two versions of a program, without running it."""

    path: str
    size: int
    modified: int  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class KernelIdentity:
    """A kernel's content: one that is built again at the same path is another."""

    name: str
    release: str
    digest: str  # SHA-256 of the image


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Everything that has to be the same for KVM to work, or fail, again."""

    machine: MachineIdentity
    qemu: FileIdentity
    kernel: KernelIdentity
    append: tuple[str, ...]  # kernel parameters, such as may be what fails

    def is_on_same_machine(self, other: Boot) -> bool:
        """Return whether the two have the machine and QEMU in common."""
        return (self.machine, self.qemu) == (other.machine, other.qemu)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a boot under KVM has shown."""

    boot: Boot
    works: bool
    why: str  # KVM failed; "" if it works
    when: str  # ISO 8601, UTC


def identify(kernel: Kernel, *, qemu: str, append: Sequence[str]) -> Boot:
    """Return the identity of a boot. Raises OSError if the kernel or QEMU cannot be read."""
    with kernel.image.open("rb") as image:
        digest = hashlib.file_digest(image, "sha256").hexdigest()
    return Boot(
        machine=this_machine(),
        qemu=identify_file(qemu),
        kernel=KernelIdentity(name=kernel.name, release=kernel.release, digest=digest),
        append=tuple(append),
    )


def this_machine() -> MachineIdentity:
    """Return the identity of this machine; what cannot be read is empty."""
    processor = dict(_fields(_text("/proc/cpuinfo").partition("\n\n")[0]))
    telling = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    board = " ".join(_text(f"/sys/class/dmi/id/{name}").strip() for name in ("sys_vendor", "product_name"))
    settings = [f"{file}={_text(str(file))}" for file in sorted(Path("/sys/module").glob("kvm*/parameters/*"))]
    return MachineIdentity(
        processor=processor.get("model name", platform.machine()),
        features=_digest(processor.get(name, "") for name in telling),
        board=board.strip(),
        kernel=f"{platform.release()} {platform.version()}",
        settings=_digest(settings),
    )


def identify_file(path: str) -> FileIdentity:
    """Return the identity of the program at `path`. Raises OSError."""
    real = Path(path).resolve()
    status = real.stat()
    return FileIdentity(path=str(real), size=status.st_size, modified=status.st_mtime_ns)


def recall() -> tuple[Known, ...]:
    """Return what is known, oldest first, of this machine and others."""
    try:
        content = json.loads(_file().read_text())
        if content["schema"] != _SCHEMA:
            return ()
        return tuple(_known(entry) for entry in content["known"])
    except _DAMAGE:
        return ()


def learn(boot: Boot, *, works: bool, why: str = "") -> None:
    """Remember what a boot under KVM has shown, in place of older entries about the same boot."""
    known = Known(boot=boot, works=works, why=why, when=datetime.now(UTC).isoformat(timespec="seconds"))
    with contextlib.suppress(OSError), _locked():
        kept = [one for one in recall() if not _is_superseded(one.boot, boot)]
        _write([*kept, known][-_MOST:])


def forget() -> int:
    """Forget all; return how many boots were known. Raises OSError."""
    count = len(recall())
    with contextlib.suppress(FileNotFoundError):
        _file().unlink()
    return count


def _is_superseded(old: Boot, new: Boot) -> bool:
    """Return whether `old` is the same boot, or one by a QEMU that `new` has replaced."""
    return old == new or (old.machine == new.machine and old.qemu.path == new.qemu.path and old.qemu != new.qemu)


def _file() -> Path:
    return cache_root() / "acceleration.json"


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keep other runs from writing meanwhile: one of the two would lose what it has learnt. Raises OSError."""
    _file().parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_file().with_suffix(".lock"), timeout=_SECONDS_TO_LOCK):
        yield


def _write(known: Sequence[Known]) -> None:
    content = {"schema": _SCHEMA, "known": [asdict(one) for one in known]}
    write_text(_file(), json.dumps(content, indent=1))


def _known(entry: dict[str, Any]) -> Known:
    boot = entry["boot"]
    return Known(
        boot=Boot(
            machine=MachineIdentity(**boot["machine"]),
            qemu=FileIdentity(**boot["qemu"]),
            kernel=KernelIdentity(**boot["kernel"]),
            append=tuple(boot["append"]),
        ),
        works=bool(entry["works"]),
        why=str(entry["why"]),
        when=str(entry["when"]),
    )


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def _text(path: str) -> str:
    """Return the text of one of the kernel's files, "" if it cannot be read."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def _digest(words: Any) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read an x86 kernel image's boot header: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from vm.base.errors import NotAKernelError, TooOldError

if TYPE_CHECKING:
    from pathlib import Path

OLDEST = (5, 3)
"""The first release with SO_DETACH_REUSEPORT_BPF and the reference test that this project grew from."""

_HEADER_END = 0x268
_SETUP_SECTS = 0x1F1
_SYSSIZE = 0x1F4
_MAGIC = 0x202
_VERSION_POINTER = 0x20E
_KERNEL_HALF = 0xFFFF_FFFF_8000_0000


def read_release(path: Path) -> str:
    """Return the release (`uname -r`) that the boot header of `path` states.

    Raises NotAKernelError when the file is no complete bzImage.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER_END)
            if head[_MAGIC : _MAGIC + 4] != b"HdrS":
                raise NotAKernelError(_what_it_is(path, head))
            if len(head) < _HEADER_END:
                raise NotAKernelError(f"{path} is cut short within its boot header: copy or build it again")
            (pointer,) = struct.unpack_from("<H", head, _VERSION_POINTER)
            file.seek(pointer + 0x200)
            text = file.read(256).split(b"\0")[0].decode("ascii", "replace")
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror}"
        if isinstance(error, PermissionError):
            reason += (
                ". Some distributions keep their images for root alone: run as root, let this user read it (sudo chmod "
                f"a+r {path}), or choose a kernel by name (python -m vm list)"
            )
        raise NotAKernelError(reason) from error
    release = text.split(" ")[0]
    if not pointer or not re.match(r"\d+\.\d+", release):
        raise NotAKernelError(f"{path} has an x86 boot header that states no kernel release")
    # The protected-mode part is counted in 16-byte paragraphs; a setup_sects of 0 means 4.
    (paragraphs,) = struct.unpack_from("<L", head, _SYSSIZE)
    whole = ((head[_SETUP_SECTS] or 4) + 1) * 512 + paragraphs * 16
    if size < whole:
        raise NotAKernelError(f"{path} is cut short: {size} of at least {whole} bytes; copy or build it again")
    return release


def demand_supported(release: str, *, what: str) -> None:
    """Raise TooOldError when `release` is older than OLDEST; `what` names the kernel in the message."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match[1]), int(match[2])) < OLDEST:
        lacks = "SO_DETACH_REUSEPORT_BPF (5.3)"
        if (int(match[1]), int(match[2])) < (4, 19):
            lacks = f"BPF_PROG_TYPE_SK_REUSEPORT (4.19) and {lacks}"
        raise TooOldError(f"{what} is Linux {release}, which lacks {lacks}: take a kernel from 5.3 on")


def _what_it_is(path: Path, head: bytes) -> str:
    if head.startswith(b"\x7fELF"):
        if _is_vmlinux(path, head):
            return (
                f"{path} is an ELF vmlinux, which QEMU's loader does not take: "
                "give the bzImage of the same build (arch/x86/boot/bzImage, or its directory)"
            )
        return f"{path} is no x86 kernel image but an ordinary ELF file"
    if head[0x38:0x3C] == b"ARM\x64":
        return f"{path} is an arm64 kernel image: only x86-64 kernels are booted"
    if not head:
        return f"{path} is no x86 kernel image: it is empty"
    return f'{path} is no x86 kernel image: there is no boot header ("HdrS") at 0x202'


def _is_vmlinux(path: Path, head: bytes) -> bool:
    """Return whether an ELF file is linked into the kernel's half of the address space."""
    if head[4] != 2 or len(head) < 0x40:
        return False
    table, entry_size, entries = (
        *struct.unpack_from("<Q", head, 0x20),
        *struct.unpack_from("<HH", head, 0x36),
    )
    with path.open("rb") as file:
        file.seek(table)
        headers = file.read(entry_size * entries)
    return any(
        struct.unpack_from("<Q", headers, offset + 0x10)[0] >= _KERNEL_HALF
        for offset in range(0, len(headers) - 0x18, max(entry_size, 1))
        if struct.unpack_from("<L", headers, offset)[0] == 1  # PT_LOAD
    )

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Extract the ELF kernel from a bzImage, so that an emulated guest need not decompress it.

Decompressing a distribution's kernel costs the host a second and a guest under TCG six, a third of its boot. QEMU
starts an ELF kernel through its PVH entry point (Documentation/arch/x86/boot.rst, XEN_ELFNOTE_PHYS32_ENTRY); a kernel
without one boots from its bzImage.
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Offsets in the boot header (Documentation/arch/x86/boot.rst).
_SETUP_SECTS = 0x1F1
_BOOT_PROTOCOL = 0x206
_PAYLOAD = 0x248
_PAYLOAD_SINCE = 0x208

_PT_NOTE = 4
_PHYS32_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h


def extract_vmlinux(image: Path) -> bytes | None:
    """Return the ELF kernel of a bzImage if QEMU can start it directly, else None.

    None also for a payload in a format that nothing here decompresses (zstd and lz4 need their programs).
    """
    payload = _payload(image.read_bytes())
    for magic, decompress in _FORMATS.items():
        if payload.startswith(magic):
            try:
                kernel = decompress(payload)
            except (lzma.LZMAError, zlib.error, OSError, EOFError):
                return None
            return kernel if has_pvh_entry(kernel) else None
    return None


def has_pvh_entry(kernel: bytes) -> bool:
    """Return whether an ELF64 kernel has the note with its 32-bit entry point."""
    return kernel[:5] == b"\x7fELF\x02" and any(
        owner == b"Xen\0" and kind == _PHYS32_ENTRY for owner, kind in _notes(kernel)
    )


def _payload(image: bytes) -> bytes:
    (protocol,) = struct.unpack_from("<H", image, _BOOT_PROTOCOL)
    if protocol < _PAYLOAD_SINCE:
        return b""
    offset, length = struct.unpack_from("<LL", image, _PAYLOAD)
    start = ((image[_SETUP_SECTS] or 4) + 1) * 512 + offset
    return image[start : start + length]


def _notes(kernel: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the owner and the type of each ELF note."""
    (headers,) = struct.unpack_from("<Q", kernel, 32)
    size, count = struct.unpack_from("<HH", kernel, 54)
    for header in range(headers, headers + size * count, size):
        kind, _, start = struct.unpack_from("<LLQ", kernel, header)
        if kind != _PT_NOTE:
            continue
        (end,) = struct.unpack_from("<Q", kernel, header + 32)
        end += start
        while start + 12 <= end:
            owner_size, content_size, note = struct.unpack_from("<LLL", kernel, start)
            start += 12
            yield kernel[start : start + owner_size], note
            start += (owner_size + 3) // 4 * 4 + (content_size + 3) // 4 * 4


def _xz(payload: bytes) -> bytes:
    # Unlike lzma.decompress, this ignores the size that the kernel's build appends.
    return lzma.LZMADecompressor().decompress(payload)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(payload)


def _bzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload)


def _through(tool: str) -> Callable[[bytes], bytes]:
    def decompress(payload: bytes) -> bytes:
        found = shutil.which(tool)
        if found is None:
            raise OSError(f"{tool} is not installed")
        # The appended size makes the tool end with an error after the whole kernel: the ELF check decides.
        return subprocess.run([found, "-dcq"], input=payload, capture_output=True, check=False).stdout

    return decompress


_FORMATS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x1f\x8b": _gzip,
    b"BZh": _bzip2,
    b"\x28\xb5\x2f\xfd": _through("zstd"),
    b"\x02\x21\x4c\x18": _through("lz4"),
}

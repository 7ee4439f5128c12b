# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a kernel with kmemleak tells, in the forms of print_unreferenced() (mm/kmemleak.c) of 6.1 and later kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernel.holdings.kmemleak import YOUNGEST, Kmemleak, KmemleakError, parse

OF_6_1 = """\
unreferenced object 0xffff888005a3c800 (size 2048):
  comm "python3", pid 101, jiffies 4294912345 (age 12.340s)
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
    80 00 01 00 00 00 00 00 2a 00 00 00 00 00 00 00  ........*.......
  backtrace:
    [<00000000a6b8f1f1>] kmemleak_alloc+0x2f/0x50
    [<00000000a6b8f1f2>] __kmem_cache_alloc_node+0x1d0/0x2a0
    [<00000000a6b8f1f3>] __kmalloc+0x4d/0x140
    [<00000000a6b8f1f4>] reuseport_grow.isra.0+0x70/0x320
    [<00000000a6b8f1f5>] reuseport_add_sock+0x1c3/0x2d0
    [<00000000a6b8f1f6>] udp_lib_get_port+0x5a2/0x900
    [<00000000a6b8f1f7>] inet_bind+0x4b/0x80
unreferenced object 0xffffc90000a3d000 (size 64):
  comm "kworker/0:1", pid 9, jiffies 4294912399 (age 5.100s)
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace:
    [<00000000a6b8f1f8>] 0xffffffffc01d2036
"""

OF_6_12 = """\
unreferenced object 0xffff888005a3c800 (size 128):
  comm "python3", pid 101, jiffies 4294912345
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 4ea51d1b):
    [<00000000a6b8f1f1>] __kmalloc_node_noprof+0x1b2/0x400
    [<00000000a6b8f1f2>] __bpf_map_area_alloc+0x59/0x120
    [<00000000a6b8f1f3>] reuseport_array_alloc+0x4c/0xa0
"""

OF_LATER = (
    OF_6_12.replace("[<00000000a6b8f1f1>] ", "")
    .replace("[<00000000a6b8f1f2>] ", "")
    .replace("[<00000000a6b8f1f3>] ", "")
)


def test_objects_are_told_by_their_size_and_by_who_made_them() -> None:
    grown, unknown = parse(OF_6_1)
    assert (grown.size, grown.callers[:2]) == (2048, ("reuseport_grow.isra.0", "reuseport_add_sock"))
    assert str(grown) == "2048 bytes that reuseport_grow.isra.0 < reuseport_add_sock < udp_lib_get_port allocated"
    assert grown.text.endswith("inet_bind+0x4b/0x80")
    assert str(unknown) == "64 bytes that nobody known allocated"


@pytest.mark.parametrize("text", [OF_6_12, OF_LATER])
def test_later_forms(text: str) -> None:
    (leak,) = parse(text)
    assert (leak.size, leak.callers) == (128, ("reuseport_array_alloc",))


def test_a_file_without_objects_tells_of_none() -> None:
    assert parse("") == []


def test_memory_is_scanned_again_when_the_last_allocation_is_old_enough(tmp_path: Path) -> None:
    file = tmp_path / "kmemleak"
    said = []

    def wait(seconds: float) -> None:
        said.append((file.read_text(), seconds))
        file.write_text("")

    assert Kmemleak(file, sleep=wait).new() == []
    assert (said, file.read_text()) == ([("scan", YOUNGEST)], "scan")


def test_a_detector_that_went_off_says_so() -> None:
    refuses = Path("/sys/kernel/uevent_seqnum")  # any file that root, too, may not write
    with pytest.raises(KmemleakError, match=r"switched itself off.*CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE"):
        Kmemleak(refuses).new()

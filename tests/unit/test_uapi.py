# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The constants of the kernel's interface are those of its headers on this machine, as a compiler reads them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from harness.model import uapi

HEADERS = (
    *("sys/socket.h", "netinet/tcp.h", "linux/in.h", "linux/if_packet.h", "linux/if_ether.h", "linux/udp.h"),
    *("linux/icmp.h", "linux/icmpv6.h", "linux/bpf.h"),
)

MAP_TYPES = {"sockarray": "REUSEPORT_SOCKARRAY"}
OTHERWISE = {f"TCP_{flag}": f"TH_{flag}" for flag in ("FIN", "SYN", "RST", "ACK", "URG")} | {"TCP_PSH": "TH_PUSH"}
"""What is called otherwise here."""

NO_HEADER = {"ENOTSUPP": 524}
"""What headers of user space lack: include/linux/errno.h."""


def expected() -> dict[str, int]:
    """Return each constant by the name that C has for it."""
    numbers = {name: value for name, value in vars(uapi).items() if name.isupper() and type(value) is int}
    found = {OTHERWISE.get(name, name): value for name, value in numbers.items()}
    for name, value in uapi.MAP_TYPE.items():
        found[f"BPF_MAP_TYPE_{MAP_TYPES.get(name, name.upper())}"] = value
    for name, value in uapi.MAP_FLAG.items():
        found[f"BPF_F_{name.upper()}"] = value
    for name, value in uapi.PROGRAM_TYPE.items():
        found[f"BPF_PROG_TYPE_{name.upper()}"] = value
    return found


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang: run ./bootstrap")
def test_numbers_are_those_of_the_headers() -> None:
    checked = {name: value for name, value in expected().items() if name not in NO_HEADER}
    assert len(checked) > 70
    lines = [f"#include <{header}>" for header in HEADERS]
    lines += [f'_Static_assert({name} == {value}, "{name}");' for name, value in checked.items()]
    source = "\n".join(lines)
    done = subprocess.run(
        ["clang", "-fsyntax-only", "-ferror-limit=0", "-x", "c", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall(r"error: .*", done.stderr) == []
    assert done.returncode == 0


def test_numbers_that_no_header_has_are_the_kernel_s_own() -> None:
    assert {name: expected()[name] for name in NO_HEADER} == NO_HEADER


def test_kinds_of_maps_have_the_names_of_their_numbers() -> None:
    assert {uapi.MAP_KIND[number] for number in uapi.MAP_TYPE.values()} == set(uapi.MAP_TYPE)

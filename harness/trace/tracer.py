# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile a tracer with bcc against the running kernel's headers and attach it to the selection path."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.kernel.release import running
from harness.loader.maps import Map
from harness.trace import headers
from harness.trace.btf_offsets import defines as field_defines
from harness.trace.probes import DROP_TRACEPOINT, locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.trace.probes import Probe

_HERE = Path(__file__).parent
FIELDS = "fields.h"
"""The file with the offsets of the kernel's fields, which every tracer reads."""

_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


class TracingError(Exception):
    """A kernel that cannot be traced; the message says in one line why, and what to do."""


def why_unavailable() -> str | None:
    """Return why tracing is unavailable and how to fix it, in one line; None if a quick look finds nothing wrong."""
    release = os.uname().release
    if os.geteuid() != 0:
        return "tracing needs root"
    if not Path("/sys/bus/event_source/devices/kprobe").exists():
        return f"{release} lacks kprobes (CONFIG_KPROBE_EVENTS): the kernels of `python -m vm list` have them"
    if importlib.util.find_spec("bcc") is None:
        return "bcc is not installed: run ./bootstrap (Debian: python3-bpfcc, for the system's python3)"
    if headers.find(release) is None:
        return (
            f"there are no headers of {release} where bcc looks (/lib/modules/{release}/build): "
            "set BCC_KERNEL_SOURCE to a tree of that kernel or, if it is this machine's own, "
            f"install linux-headers-{release}"
        )
    return None


class Tracer:
    """A BPF program of this directory in the kernel, attached to those of the probes that the kernel has.

    `sources` are its files, compiled as one text in this order behind fields.h. `defines` are macros for it, NAME or
    NAME=VALUE. Raises TracingError.
    """

    def __init__(self, sources: Iterable[str], probes: Iterable[Probe], *, defines: Iterable[str] = ()) -> None:
        if reason := why_unavailable():
            raise TracingError(reason)
        found = headers.find()
        assert found is not None, "why_unavailable() looked"
        bcc = _import_bcc()
        macros = [f"-D{name}" for name in (*defines, *found.defines, *field_defines())]
        try:
            # -w: newer kernels' headers warn in the clang that an older bcc brings along, to no one's use.
            self._bpf = bcc.BPF(text=one_text([FIELDS, *sources]), cflags=["-w", *macros])
        except Exception as error:  # bcc raises nothing narrower
            raise TracingError(f"bcc cannot compile the tracer against {found.source}: {error}") from error
        symbols = Path("/proc/kallsyms").read_bytes()
        self._symbols = Symbols(symbols)
        self.missing = tuple(self._attach(probes, symbols))
        """What the probes that this kernel does not have would have shown."""

    def map(self, name: str, *, key_size: int, value_size: int, mapped: int = 0) -> Map:
        """Return a map of the program; `mapped` as for `Map`."""
        fd = self._bpf[name.encode()].map_fd
        return Map(fd, name=name, key_size=key_size, value_size=value_size, mapped=mapped)

    def function_at(self, address: int) -> str:
        """Return the name of the kernel's function that an address lies in."""
        return self._symbols.at(address)

    def close(self) -> None:
        """Detach from the kernel."""
        self._bpf.cleanup()

    def _attach(self, probes: Iterable[Probe], symbols: bytes) -> list[str]:
        missing = []
        for probe in probes:
            name = locate(probe, symbols)
            try:
                if name is None:
                    raise LookupError(probe.symbols)
                if probe.enter:
                    self._bpf.attach_kprobe(event=name.encode(), fn_name=probe.enter.encode())
                if probe.leave:
                    self._bpf.attach_kretprobe(event=name.encode(), fn_name=probe.leave.encode())
            except Exception:  # bcc raises nothing narrower: a function may be there and not take a probe
                if running().series >= probe.since:
                    missing.append(f"{probe.shows} ({' or '.join(probe.symbols)})")
        try:
            self._bpf.attach_raw_tracepoint(tp=DROP_TRACEPOINT.encode(), fn_name=b"on_drop")
        except Exception:
            missing.append(f"drops (skb:{DROP_TRACEPOINT})")
        return missing


def one_text(names: Iterable[str]) -> bytes:
    """Return files of this directory one after the other, as bcc compiles them.

    Marks between them (C11 6.10.4) have the compiler's messages name each line by its own file and number.
    """
    parts = (b'#line 1 "%b"\n%b' % (str(_HERE / name).encode(), (_HERE / name).read_bytes()) for name in names)
    return b"\n".join(parts)


def netns_inode() -> int:
    """Return the inode of the calling thread's network namespace, by which the kernel names it."""
    return os.stat("/proc/thread-self/ns/net").st_ino  # noqa: PTH116  # twice as fast, and asked once a case


class Symbols:
    """The kernel's functions by their addresses, from the text of /proc/kallsyms."""

    def __init__(self, text: bytes) -> None:
        self._lines = _Lines(text)
        self._named: dict[int, str] = {}  # few addresses drop most packets

    def at(self, address: int) -> str:
        """Return the function that an address lies in."""
        if address not in self._named:
            place = bisect_right(self._lines, address, key=_address) - 1
            self._named[address] = self._lines[place].split()[2].decode() if place >= 0 else hex(address)
        return self._named[address]


class _Lines:
    """The lines of a text as a sequence for bisect, without splitting it: index N is the line that byte N lies in."""

    def __init__(self, text: bytes) -> None:
        # The modules' symbols follow the kernel's own; their addresses do not continue the order.
        end = text.find(b"\t[")
        self._text = text if end < 0 else text[: text.rfind(b"\n", 0, end) + 1]

    def __len__(self) -> int:
        return len(self._text)

    def __getitem__(self, index: int) -> bytes:
        start = self._text.rfind(b"\n", 0, index) + 1
        return self._text[start : self._text.find(b"\n", index)]


def _address(line: bytes) -> int:
    return int(line[:16] or b"0", 16)


def kernel_drop_reasons() -> dict[int, str]:
    """Return the running kernel's drop reasons by number, {} before 5.17 or without tracefs."""
    for root in _TRACEFS:
        try:
            text = (root / "events/skb/kfree_skb/format").read_text()
        except OSError:
            continue
        return drop_reasons(text)
    return {}


def drop_reasons(text: str) -> dict[int, str]:
    """Return the reasons that the format of skb:kfree_skb lists."""
    return {int(number): name for number, name in re.findall(r'\{ (\d+), "(\w+)" \}', text)}


def _import_bcc() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what newer Pythons deprecate; no case should fail for that
        import bcc  # noqa: PLC0415  # seconds, and only where a witness is wanted

    return bcc

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stand inside the kernel by bcc and tell of each packet why it went where it went."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import warnings
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import headers
from harness.events import EVENTS, LOG_SIZE, Reading, read_log
from harness.fields import defines as field_defines
from harness.libbpf import Map
from harness.points import DROP_TRACEPOINT, POINTS, locate
from harness.release import running
from harness.story import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("fields.h", "witness.c"))
_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_CLONE_FS = 0x200
_9P = "9p"
_LARGE = 1 << 20


class NoWitnessError(Exception):
    """Say in one line why there is no witness, and how to get one."""


def why_not() -> str | None:
    """Return what keeps the witness away, in one line that names the remedy; None if nothing that is seen at once."""
    release = os.uname().release
    if os.geteuid() != 0:
        return "the witness needs root"
    if not Path("/sys/bus/event_source/devices/kprobe").exists():
        return f"the kernel {release} has no kprobes (CONFIG_KPROBE_EVENTS)"
    if importlib.util.find_spec("bcc") is None:
        return "bcc is not installed: run ./bootstrap (Debian: python3-bpfcc, for the system's python3)"
    if headers.find(release) is None:
        return (
            f"there are no headers of {release} where bcc looks (/lib/modules/{release}/build): "
            f"install linux-headers-{release}, or set BCC_KERNEL_SOURCE to a kernel tree"
        )
    return None


class Witness:
    """Own the tracer in the kernel; it is idle, at no cost to speak of, until `listen`.

    Making one imports bcc, compiles harness/witness.c and attaches it: seconds, and half a minute under emulation.
    Raises NoWitnessError.
    """

    def __init__(self) -> None:
        began = time.monotonic()
        if reason := why_not():
            raise NoWitnessError(reason)
        found = headers.find()
        assert found is not None, "why_not() looked"
        self._cpus = os.cpu_count() or 1
        bcc = _import_bcc()
        logs = (f"LOG_CPUS={self._cpus}", f"LOG_EVENTS={EVENTS}", f"LOG_SIZE={LOG_SIZE}")
        defines = [f"-D{name}" for name in (*logs, *found.defines, *field_defines())]
        try:
            # -w: newer kernels' headers warn in the clang that an older bcc brings along, to no one's use.
            text = b"".join(source.read_bytes() for source in _SOURCES)
            self._bpf = bcc.BPF(text=text, cflags=["-w", *defines])
        except Exception as error:  # bcc raises nothing narrower
            raise NoWitnessError(f"bcc cannot compile the tracer against {found.source}: {error}") from error
        self._symbols = Path("/proc/kallsyms").read_bytes()
        self.missing = tuple(self._attach())
        self._log = self._map("logs", LOG_SIZE)
        self._settings = self._map("settings", 4)
        self._counts = [0] * self._cpus
        self.reasons = _drop_reasons()
        self.seconds = time.monotonic() - began
        """What it took to get here."""

    def listen(self, netns: int) -> None:
        """Write down what happens in a network namespace, named by its inode, from now on; 0: nothing."""
        self._settings.update(struct.pack("=I", 0), struct.pack("=I", netns))
        self.read()

    def read(self) -> Reading:
        """Return what was written down since the last call."""
        records, lost = [], 0
        for cpu in range(self._cpus):
            log = self._log.lookup(struct.pack("=I", cpu))
            assert log is not None, "log is an array: it has every key"
            new, over, self._counts[cpu] = read_log(log, self._counts[cpu])
            records += new
            lost += over
        return Reading(records=tuple(records), lost=lost)

    def evidence(self, readings: Iterable[Reading], names: Mapping[int, str]) -> Evidence:
        """Return what readings show, given what a case calls its sockets, by cookie."""
        return Evidence.gather(readings, names=names, reasons=self.reasons, symbol=self.symbol, missing=self.missing)

    def symbol(self, address: int) -> str:
        """Return the function of the kernel that an address lies in."""
        return symbol_at(self._symbols, address)

    def close(self) -> None:
        """Detach from the kernel."""
        self._bpf.cleanup()

    def _attach(self) -> list[str]:
        """Attach at every point that the kernel has; return what the others would have told."""
        missing = []
        for point in POINTS:
            name = locate(point, self._symbols)
            try:
                if name is None:
                    raise LookupError(point.symbols)
                if point.enter:
                    self._bpf.attach_kprobe(event=name.encode(), fn_name=point.enter.encode())
                if point.leave:
                    self._bpf.attach_kretprobe(event=name.encode(), fn_name=point.leave.encode())
            except Exception:  # bcc raises nothing narrower: a function may be there and not take a probe
                if running().series >= point.since:
                    missing.append(f"{point.tells} ({' or '.join(point.symbols)})")
        try:
            self._bpf.attach_raw_tracepoint(tp=DROP_TRACEPOINT.encode(), fn_name=b"on_drop")
        except Exception:
            missing.append(f"drops (skb:{DROP_TRACEPOINT})")
        return missing

    def _map(self, name: str, value_size: int) -> Map:
        return Map(self._bpf[name.encode()].map_fd, name=name, key_size=4, value_size=value_size)


class Loader:
    """Make the witness in a thread of its own, so that other work goes on meanwhile."""

    def __init__(self) -> None:
        self._witness: Witness | None = None
        self._failure: NoWitnessError | None = None
        self._thread = threading.Thread(target=self._load, name="witness", daemon=True)
        self._thread.start()

    def wait(self) -> Witness:
        """Return the witness once it is there; NoWitnessError."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self._witness is not None, "it is there, or it failed"
        return self._witness

    def _load(self) -> None:
        # bcc changes the working directory while it compiles: let it be this thread's alone.
        ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FS)
        try:
            self._witness = Witness()
        except NoWitnessError as error:
            self._failure = error
        except Exception as error:  # a thread's exception would go to nobody
            self._failure = NoWitnessError(f"the tracer cannot be loaded: {type(error).__name__}: {error}")


def netns_inode() -> int:
    """Return the inode of the calling thread's network namespace, which names it in the kernel."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def symbol_at(symbols: bytes, address: int) -> str:
    """Return the function that an address lies in, by the text of /proc/kallsyms."""
    lines = _Lines(symbols)
    place = bisect_right(lines, address, key=_address) - 1
    return lines[place].split()[2].decode() if place >= 0 else hex(address)


class _Lines:
    """See a text of lines sorted by address as a sequence, without cutting it: every byte is an index."""

    def __init__(self, text: bytes) -> None:
        # Modules follow the kernel proper and start anew with lower addresses.
        end = text.find(b"\t[")
        self._text = text if end < 0 else text[: text.rfind(b"\n", 0, end) + 1]

    def __len__(self) -> int:
        return len(self._text)

    def __getitem__(self, index: int) -> bytes:
        start = self._text.rfind(b"\n", 0, index) + 1
        return self._text[start : self._text.find(b"\n", index)]


def _address(line: bytes) -> int:
    return int(line[:16] or b"0", 16)


def _drop_reasons() -> dict[int, str]:
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
    _preload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it uses is deprecated here and there; nothing for a case to fail on
        import bcc  # noqa: PLC0415  # seconds, and only where a witness is wanted

    return bcc


def _preload() -> None:
    """Bring the large libraries behind bcc into memory, where the file system would bring them page by page.

    9p without a cache fetches 4 KiB a page fault: ten thousand of them, a minute and more under emulation. Read in
    one go to a file system in memory, the same libraries are there in seconds.
    """
    memory = Path("/dev/shm")
    libraries = _libraries("libbcc.so.0")
    if not libraries or _file_system(libraries[0]) != _9P or not memory.is_dir():
        return
    large = [library for library in libraries if library.stat().st_size > _LARGE]
    if shutil.disk_usage(memory).free < 2 * sum(library.stat().st_size for library in large):
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        for library in reversed(large):  # what others need comes last in ldd's list
            copy = shutil.copy(library, directory)
            ctypes.CDLL(copy, mode=ctypes.RTLD_GLOBAL)


def _libraries(name: str) -> list[Path]:
    """Return the files that the loader would map for a library, itself first."""
    for directory in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        library = Path(directory) / name
        if library.exists():
            listed = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=False).stdout
            return [library, *(Path(path) for path in re.findall(r"=> (/\S+)", listed))]
    return []


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path lies in."""
    device = path.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        major, minor = map(int, fields[2].split(":"))
        if os.makedev(major, minor) == device:
            return fields[fields.index("-") + 1]
    return ""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Trace the selection path of the running kernel: record for each packet why it went where it went."""

from __future__ import annotations

import os
import struct
import threading
from typing import TYPE_CHECKING

from harness.loader.libc import libc
from harness.loader.maps import arrays_can_be_mapped
from harness.model.uapi import BPF_F_MMAPABLE
from harness.trace.events import EVENTS, LOG_SIZE, Reading, read_log
from harness.trace.evidence import Evidence
from harness.trace.probes import PROBES
from harness.trace.tracer import Tracer, TracingError, kernel_drop_reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOURCES = (
    "witness_log.h",
    "witness_arrival.c",
    "witness_selection.c",
    "witness_queues.c",
    "witness_replies.c",
    "witness_migration.c",
)
"""The witness's files, in the order in which they are compiled: each uses what stands in those before it."""

_CLONE_FS = 0x200
_FIRST = struct.pack("=I", 0)


class Witness:
    """The tracer of the selection path in the kernel; it is idle, at next to no cost, until `listen`.

    Making one imports bcc, compiles and attaches: seconds, and half a minute under emulation. Raises TracingError.
    """

    def __init__(self) -> None:
        self._cpus = os.cpu_count() or 1
        sizes = (f"LOG_CPUS={self._cpus}", f"LOG_EVENTS={EVENTS}", f"LOG_SIZE={LOG_SIZE}")
        mapped = arrays_can_be_mapped()
        flags = f"ARRAY_FLAGS={BPF_F_MMAPABLE if mapped else 0}"
        self._tracer = Tracer(SOURCES, PROBES, defines=(*sizes, flags))
        self._log = self._tracer.map("logs", key_size=4, value_size=LOG_SIZE, mapped=self._cpus if mapped else 0)
        self._settings = self._tracer.map("settings", key_size=4, value_size=4, mapped=int(mapped))
        self._counts = [0] * self._cpus
        self._drop_reasons = kernel_drop_reasons()

    def listen(self, netns: int) -> None:
        """Record from now on what happens in the network namespace with inode `netns`; 0: record nothing."""
        self._settings.update(_FIRST, struct.pack("=I", netns))

    def read(self) -> Reading:
        """Return what was recorded since the last call."""
        records, lost = [], 0
        for cpu in range(self._cpus):
            found = self._log.find(struct.pack("=I", cpu))
            assert found is not None, "log is an array: it has every key"
            new, over, self._counts[cpu] = read_log(*found, self._counts[cpu])
            records += new
            lost += over
        return Reading(records=tuple(records), lost=lost)

    def evidence(self, readings: Iterable[Reading], sockets: Mapping[int, str]) -> Evidence:
        """Return what readings show; `sockets` is what a case calls its sockets, by cookie."""
        return Evidence.gather(
            readings,
            sockets=sockets,
            drop_reasons=self._drop_reasons,
            function_at=self._tracer.function_at,
            missing=self._tracer.missing,
        )

    def close(self) -> None:
        """Detach from the kernel."""
        self._tracer.close()


class Loader:
    """A thread that makes the witness while other work goes on."""

    def __init__(self) -> None:
        self._witness: Witness | None = None
        self._failure: TracingError | None = None
        self._thread = threading.Thread(target=self._load, name="witness", daemon=True)
        self._thread.start()

    def wait(self) -> Witness:
        """Return the witness once it is ready. Raises TracingError if it cannot be made."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self._witness is not None, "the thread made it or failed"
        return self._witness

    def _load(self) -> None:
        # bcc changes the working directory while it compiles: give this thread one of its own.
        libc.unshare(_CLONE_FS)
        try:
            self._witness = Witness()
        except TracingError as error:
            self._failure = error
        except Exception as error:  # nobody would see a thread's exception
            self._failure = TracingError(f"the tracer cannot be loaded: {type(error).__name__}: {error}")

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a command on a kernel that counts its lines, and report them: `python -m vm run --kernel-coverage`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vm.boot.session import run_command, take_kernel
from vm.commands.statuses import EXIT_INFRASTRUCTURE
from vm.guest import counters
from vm.kernels.catalogue import load_catalogue
from vm.kernels.counted import counted_kernels
from vm.kernels.flavours import COUNTED
from vm.kernels.obtain import select
from vm.report import gcovr, publishing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from vm.boot.session import Guest

_MARK = b"\n" + counters.BEGIN


class Separator:
    """The output of `vm.guest.counters` as a program: what its command printed goes on, the counts are kept."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._held = b""
        self._counts: bytes | None = None

    def write(self, part: bytes) -> None:
        """Take in a part of the output."""
        if self._counts is not None:
            self._counts += part
            return
        self._held += part
        before, mark, after = self._held.partition(_MARK)
        if mark:
            self._counts, self._held = after, b""
        else:
            # The end may be the beginning of the mark.
            kept = next(size for size in range(len(_MARK) - 1, -1, -1) if before.endswith(_MARK[:size]))
            before, self._held = before[: len(before) - kept], before[len(before) - kept :]
        self._output.write(before)
        self._output.flush()

    def counts(self) -> tuple[dict[str, bytes], str]:
        """Return the counts by their names, and why there are none, or ""."""
        self._output.write(self._held)
        self._output.flush()
        if self._counts is None or not self._counts.endswith(b"\n"):
            return {}, "the command, or the VM, ended before they were read"
        return counters.unpack(self._counts)


def run_counted(word: str, command: list[str], *, guest: Guest, directory: Path) -> int:
    """Run `command` on the kernel `word`, and write its counts below `directory`; return the command's exit status.

    `word` is a path: a name of the archive's is refused. EXIT_INFRASTRUCTURE if the status was 0 and the counts could
    not be reported. Raises KernelError before anything runs.
    """
    parameters = " ".join(guest.options.append)
    kernel, *_ = counted_kernels(select([word], catalogue=load_catalogue()), parameters=parameters).values()
    gcovr.demand()
    separator = Separator(sys.stdout.buffer)
    inside = [sys.executable, "-I", "-S", str(counters.__file__), *command]
    status = run_command(take_kernel(word, mirror=None), inside, guest=guest, write=separator.write)
    counts, complaint = separator.counts()
    if not counts:
        print(f"error: --kernel-coverage: there are no counts: {complaint}", file=sys.stderr)
        return status or EXIT_INFRASTRUCTURE
    counted = gcovr.Counted(objects=kernel.objects, source=kernel.source, gcov=kernel.gcov, functions=COUNTED)
    try:
        with publishing.translate_oserror(directory):
            gcovr.keep(counts, directory, COUNTED)
            found = gcovr.make_reports(directory, counted)
    except (gcovr.CoverageError, publishing.ResultsError) as error:
        print(f"error: --kernel-coverage: {error}", file=sys.stderr)
        return status or EXIT_INFRASTRUCTURE
    for line in [*gcovr.describe(word, found), f"  {directory / gcovr.PAGE}"]:
        print(line, file=sys.stderr)
    return status

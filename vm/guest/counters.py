# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The counts of a kernel of the flavour gcov, read in the guest: when its cases have run, or after a command.

As a program, `counters.py COMMAND [ARGUMENT…]` runs the command, then prints a line that begins with BEGIN and has the
counts, and ends with the command's status.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path("/sys/kernel/debug/gcov")

COUNTS, COMPLAINT = "kernel_counts", "kernel_counts_complaint"
"""What a worker's last message has: the files of counts by their names, and why there are none, or ""."""

BEGIN = b"reuseport-harness: counts "
"""The beginning of the line that the program prints."""


def read() -> dict[str, bytes]:
    """Return the counts of each object: the content of a file, by its path below ROOT. Raises OSError.

    The path is that of the object in the file system of the machine that built it. A file is one moment's: the kernel
    copies the counters as it is opened (kernel/gcov/fs.c, `gcov_seq_open`).
    """
    found = {str(file.relative_to(ROOT)): file.read_bytes() for file in sorted(ROOT.rglob("*.gcda"))}
    if not found:
        raise FileNotFoundError(f"{ROOT} has no counts: is debugfs mounted?")
    return found


class Counters:
    """The plugin of the worker in a guest."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Have the worker's last message carry the counts."""
        # What pytest-xdist sends when this hook is done.
        output: dict[str, object] = session.config.workeroutput  # type: ignore[attr-defined]
        try:
            output[COUNTS], output[COMPLAINT] = read(), ""
        except OSError as error:
            output[COUNTS], output[COMPLAINT] = {}, str(error)


def unpack(line: bytes) -> tuple[dict[str, bytes], str]:
    """Return what the program's line says: the counts, and why there are none, or ""."""
    said = json.loads(line.removeprefix(BEGIN))
    return {name: base64.b64decode(content) for name, content in said[COUNTS].items()}, said[COMPLAINT]


def main(command: list[str]) -> int:
    """Run the command and print the counts; return the command's status."""
    status = subprocess.run(command, check=False).returncode if command else 0
    try:
        counts, complaint = read(), ""
    except OSError as error:
        counts, complaint = {}, str(error)
    said = {COUNTS: {name: base64.b64encode(part).decode() for name, part in counts.items()}, COMPLAINT: complaint}
    sys.stdout.buffer.write(b"\n" + BEGIN + json.dumps(said).encode() + b"\n")
    sys.stdout.buffer.flush()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run one pytest after the other, each in a fork of this process, which has imported what none of them changes.

Nothing of the project is imported here, so that each fork imports it from the tree that it runs in: for mutants of what
runs at import.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

from .serving import serve

# No plugins of pytest: it has to see them first, to rewrite their asserts.
_IMPORTED = (
    *("pytest", "execnet", "pyroute2", "scapy.config", "msgspec", "jinja2", "pygal", "qemu.qmp", "platformdirs"),
    *("filelock", "rich.console", "rich.live", "junitparser", "elftools.elf.elffile", "coverage"),
    *("importlib.metadata", "xml.etree.ElementTree"),
)


def main() -> None:
    """Serve until there are no more jobs."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    serve(_become)


def _become(job: dict[str, Any]) -> int:
    sys.argv = ["pytest", *job["arguments"]]
    sys.dont_write_bytecode = not job["reach"]
    os.environ["MUTANTS_PLAN"] = job["plan"]
    pytest = importlib.import_module("pytest")
    try:
        return int(pytest.main(job["arguments"]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()

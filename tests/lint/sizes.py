# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Check that no source file outside the tests has more than 300 lines: python tests/lint/sizes.py."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 300
WHERE = ("bpf", "harness", "vm")
KINDS = (".c", ".h", ".py", ".sh")


def complaints(root: Path) -> list[str]:
    """Return a sentence for each file below `root` that is too long."""
    lengths = {
        str(file.relative_to(root)): len(file.read_bytes().splitlines())
        for where in WHERE
        for file in sorted((root / where).rglob("*"))
        if file.suffix in KINDS
    }
    return [
        f"{name} has {length} lines, of {LIMIT} allowed: split it into modules with one job each"
        for name, length in lengths.items()
        if length > LIMIT
    ]


def main() -> int:
    """Print what is wrong; return 1 if anything is, else 0."""
    found = complaints(Path(__file__).resolve().parents[2])
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

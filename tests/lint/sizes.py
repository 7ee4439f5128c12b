# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hold every source file outside the tests to 300 lines: python tests/lint/sizes.py.

A file that is over the limit and stands in OVER passes; one that stands there and is not over the limit fails, so that
the list only ever becomes shorter.
"""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 300
WHERE = ("bpf", "harness", "vm")
KINDS = (".c", ".h", ".py", ".sh")

OVER = (
    "vm/controller/controller.py",
    "vm/controller/relay.py",
)
"""Files over the limit that are still to be split."""


def complaints(root: Path) -> list[str]:
    """Return a sentence for each file below `root` that is too long, and for each of OVER that is not."""
    lengths = {
        str(file.relative_to(root)): len(file.read_bytes().splitlines())
        for where in WHERE
        for file in sorted((root / where).rglob("*"))
        if file.suffix in KINDS
    }
    over = {name: length for name, length in lengths.items() if length > LIMIT}
    return [
        *(
            f"{name} has {length} lines, of {LIMIT} allowed: split it into modules with one job each"
            for name, length in over.items()
            if name not in OVER
        ),
        *(
            f"{name} is not over {LIMIT} lines: take it out of OVER in tests/lint/sizes.py"
            for name in OVER
            if name not in over
        ),
    ]


def main() -> int:
    """Print what is wrong; return 1 if anything is, else 0."""
    found = complaints(Path(__file__).resolve().parents[2])
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read the options of vm/bisect; those that are not its own are pytest's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return vm/bisect's own options and, in their order, the words for pytest."""
    parser = argparse.ArgumentParser(
        prog="vm/bisect",
        description="Answer `git bisect run`: build the commit that is checked out, boot it, run the cases. All other "
        "options and words go to pytest: narrow the cases down with -k. docs/bisect.md tells more.",
        epilog="Exit status: 0 good, 1 bad, 125 cannot be built or booted, 128 for what is not the commit's fault.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--times",
        type=_count,
        default=1,
        metavar="N",
        help="run each case N times on a commit; one that fails once is bad (default: 1). A race that fails one time "
        "in five passes 20 runs once in a hundred",
    )
    parser.add_argument(
        "--find-fix",
        action="store_true",
        help="look for the commit that made the cases pass: a commit on which they fail is the old one",
    )
    parser.add_argument(
        "--minimise",
        action="store_true",
        help="build kernels without what only some cases need (vm/kernels/kernel.config says what)",
    )
    parser.add_argument("--summary", action="store_true", help="sum up what the bisection has come to, and do no more")
    parser.add_argument("--tree", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("build"), help=argparse.SUPPRESS)
    return parser.parse_known_args(words)


def _count(word: str) -> int:
    try:
        count = int(word)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of runs: give 1 or more")
    return count

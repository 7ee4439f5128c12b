# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Build a kernel tree: python -m vm build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.base.errors import MissingToolError, StoreError
from vm.base.progress import progress_on
from vm.commands.statuses import EXIT_USAGE
from vm.kernels.build import FRAGMENT, MINIMAL, build
from vm.kernels.flavours import FLAVOURS

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `build`."""
    parser = subparsers.add_parser(
        "build",
        help="build a kernel tree so that it can be tested",
        description="Build the bzImage of a kernel tree. Its configuration is allnoconfig, then what virtme-ng asks of "
        f"a guest, then {FRAGMENT.name}, which says what each option is for. A .config that lies in the tree is used "
        "as it is instead, unless --output is given. Test the kernel with: tox -e vm -- --kernel DIR. Exit status: 0; "
        "13 if the tree does not compile, 4 if this machine cannot build it.",
    )
    parser.add_argument("tree", type=Path, metavar="TREE", help="a kernel source tree")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="build in this directory and leave the tree as it is (make O=DIR); a second build there compiles only "
        "what changed",
    )
    parser.add_argument(
        "--flavour",
        action="append",
        choices=FLAVOURS,
        default=[],
        help="a kernel that reports more, and is slower; may be given more than once. "
        + "; ".join(f"{name}: {what}" for name, what in FLAVOURS.items()),
    )
    parser.add_argument(
        "--minimise",
        action="store_true",
        help=f"leave out what only some cases need ({MINIMAL.name} lists it): for many builds, as in a bisection",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build and say what --kernel takes."""
    try:
        with progress_on(sys.stderr) as progress:
            built = build(
                args.tree, output=args.output, progress=progress, flavours=args.flavour, minimise=args.minimise
            )
    except (MissingToolError, StoreError) as error:
        # A fault of the machine, not the tree: a bisection must not skip the commit for it.
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"{built.release}  built in {built.seconds:.0f} s  --kernel {built.directory}")
    return 0

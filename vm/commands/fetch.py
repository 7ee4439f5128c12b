# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fetch kernels: python -m vm fetch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vm.base.errors import FetchError
from vm.base.progress import progress_on
from vm.commands.statuses import EXIT_INFRASTRUCTURE
from vm.kernels.catalogue import load_catalogue
from vm.kernels.obtain import select, update

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `fetch`."""
    parser = subparsers.add_parser(
        "fetch",
        help="fetch the newest package of kernels into the store",
        description="Look up the newest package of each kernel, check its signature, and unpack what a guest needs "
        "into the store, with its headers for bcc. A kernel that is there already is left as it is. The next run "
        "continues an interrupted download.",
    )
    parser.add_argument(
        "kernel",
        metavar="KERNEL",
        nargs="+",
        help="a name of 'python -m vm list', a pattern such as '6.*', or all",
    )
    parser.add_argument("--mirror", metavar="ADDRESS", help=MIRROR_HELP)
    parser.set_defaults(run=run)


MIRROR_HELP = (
    "the mirror to use (http://HOST/debian, http://HOST/ubuntu, file:///srv/debian) instead of those of this machine's "
    "apt sources; a Debian mirror's security archive is looked for at the same address with -security appended"
)


def run(args: argparse.Namespace) -> int:
    """Fetch the kernels of `args.kernel`; one that fails does not stop the others."""
    failed: FetchError | None = None
    for selection in select(args.kernel, catalogue=load_catalogue(), mirror=args.mirror):
        try:
            with progress_on(sys.stderr) as progress:
                kernel = update(selection, progress=progress, mirror=args.mirror)
        except FetchError as error:
            print(f"error: {selection.name}: {error}", file=sys.stderr)
            failed = error
            continue
        print(f"{kernel.name}  {kernel.version or kernel.release}  {kernel.image.parent}", flush=True)
    return 0 if failed is None else EXIT_INFRASTRUCTURE

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Remove old kernels and interrupted downloads: python -m vm prune."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from vm.base.paths import cache_root
from vm.kernels import requirements
from vm.kernels.adopted import ADOPTED
from vm.kernels.entries import kernel_store
from vm.kernels.store import translate_oserror

if TYPE_CHECKING:
    import argparse

    from vm.kernels.store import Entry


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `prune`."""
    parser = subparsers.add_parser(
        "prune",
        help="remove old versions of kernels and interrupted downloads",
        description="Remove every version of a kernel but the newest, kernels that were taken from a path (they are "
        "made again in a second), and downloads that were interrupted. Do not run it beside a test run.",
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Remove and say what was removed."""
    store = kernel_store()
    digest = requirements.modules_digest()
    newest = {name: store.newest(name, modules=digest) for name in store.names()}

    def keep(entry: Entry) -> bool:
        best = newest[entry.name]
        return best is not None and best.path == entry.path and not entry.name.startswith(ADOPTED)

    removed = [f"{entry.name} {entry.path.name}" for entry in store.prune(keep=keep)]
    downloads = cache_root() / "apt" / "archives"
    if downloads.is_dir():
        with translate_oserror(downloads):
            for left in sorted(downloads.iterdir()):
                shutil.rmtree(left)
                removed.append(f"the interrupted download of {left.name}")
    print("\n".join(f"removed {what}" for what in removed) or "there is nothing to remove")
    return 0

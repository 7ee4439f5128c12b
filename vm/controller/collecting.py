# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Collect the cases on the host while kernels boot.

Guests then find the bytecode that Python and pytest keep, and it is known which cases there are before a VM can tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from vm.base.lifeline import lifeline
from vm.controller import found
from vm.guest import bytecode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def collect_here(
    config: pytest.Config, file: Path, *, tell: Callable[[tuple[str, ...]], object]
) -> subprocess.Popen[bytes] | None:
    """Start a process that collects the cases; None where Python keeps no bytecode.

    A guest keeps no files. To rewrite the assertions of all cases takes an emulated one 15 seconds, which pytest's own
    files spare it. `file` will hold the bytecode of everything else (`vm.guest.bytecode`). `tell` is called, in a
    thread, with the cases that were found and may run beside others.
    """
    if sys.dont_write_bytecode:
        return None
    readable, writable = os.pipe()
    try:
        process = subprocess.Popen(
            [*lifeline("KILL"), sys.executable, *collection_arguments(config), *_selection(config)],
            env={**os.environ, bytecode.FILE: str(file), found.PIPE: str(writable)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writable],
        )
    except BaseException:
        os.close(readable)
        raise
    finally:
        os.close(writable)

    def read() -> None:
        with open(readable, encoding="utf-8") as pipe, contextlib.suppress(ValueError):  # noqa: PTH123  # a descriptor
            tell(tuple(json.load(pipe)))

    threading.Thread(target=read, daemon=True).start()
    return process


def _selection(config: pytest.Config) -> list[str]:
    """Return what the collecting process loads, and the options that select cases."""
    option = config.option
    return [
        *("-p", bytecode.__name__, "-p", found.__name__),
        *(("-k", option.keyword) if option.keyword else ()),
        *(("-m", option.markexpr) if option.markexpr else ()),
        *(word for prefix in option.deselect or () for word in ("--deselect", prefix)),
    ]


def collection_arguments(config: pytest.Config) -> list[str]:
    """Return the arguments with which a Python collects the cases of this run."""
    return [
        *("-m", "pytest", "--rootdir", str(config.rootpath), "--collect-only", "-q"),
        *(("-c", str(config.inipath)) if config.inipath else ()),
        *("-p", "no:cacheprovider", *config.args),
    ]

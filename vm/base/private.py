# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Find parts of libraries that are not public: they may be gone in the next version, so each has a substitute.

`vm.base.insides` uses them on the host, `vm.guest.fastpath` in a guest, and no other module of vm/ does.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

HIDE = "REUSEPORT_HIDE"
"""The environment variable by which tests hide private parts: their names, with blanks between them."""


def part(owner: object, name: str) -> Any:
    """Return the attribute `name` of `owner`, an object or a module's name; None if it is not there, or hidden."""
    if is_hidden(name):
        return None
    if isinstance(owner, str):
        try:
            owner = importlib.import_module(owner)
        except ImportError:
            return None
    return getattr(owner, name, None)


def is_hidden(name: str) -> bool:
    """Return whether a test hides the private part `name`."""
    return name in os.environ.get(HIDE, "").split()

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Import pygal, which draws charts, when one is drawn."""

from __future__ import annotations

import sys
from typing import Any


def load_pygal() -> Any:
    """Return the module pygal. It takes a tenth of a second to import."""
    finders = list(sys.meta_path)
    import pygal  # noqa: PLC0415

    # pygal 3.1 adds a finder, for maps, of a kind that Python 3.12 dropped: 3.11 warns of it at every later import.
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder in finders or type(finder).__module__ != "pygal"]
    return pygal

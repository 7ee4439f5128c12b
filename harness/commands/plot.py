# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness plot`: draw what the last run measured of consistent hashing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from harness.model.disruption import Disruption
from harness.plugins.disruption_picture import DATA, NO_MATPLOTLIB, PICTURE, draw

if TYPE_CHECKING:
    import argparse

NAME = "plot"
HELP = "draw what the last run measured of consistent hashing"
DESCRIPTION = """\
Draw results/disruption.png from results/disruption.json, which the cases of cases/test_consistent_hashing.py write:
for each kernel and program, how many clients of other members move when one member leaves, and how evenly clients are
spread. Needs matplotlib. Exit status: 0, or 1 when no run has measured anything, its data cannot be read, or matplotlib
is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def run(_: argparse.Namespace) -> int:
    """Draw the picture and print its path; return 1 if that fails."""
    try:
        found = [Disruption(**each) for each in json.loads(DATA.read_text())]
        if not found:
            raise ValueError("it has no measurement")
        draw(found, PICTURE)
    except FileNotFoundError:
        print(f"there is no {DATA}: run the cases of cases/test_consistent_hashing.py first", file=sys.stderr)
        return 1
    except ModuleNotFoundError:
        print(NO_MATPLOTLIB, file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError) as error:
        print(f"cannot draw {DATA}: {error}", file=sys.stderr)
        return 1
    print(PICTURE)
    return 0

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Answer `git bisect run`: build and judge commits, remember what was judged, and sum up the bisection."""

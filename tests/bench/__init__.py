# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How fast it is: against peers, against what the machine can do at most, and against the plain way."""

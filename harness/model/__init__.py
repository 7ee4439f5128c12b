# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model: the outcome that a packet must have, by the layout of the group and the program's rule. Does no I/O."""

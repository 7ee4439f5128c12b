# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is expected of a packet: the packet, the layout of the group, the rules, the outcome. No input or output."""

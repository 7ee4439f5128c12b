# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel holds for the cases, kind by kind, and what of it they left without an owner.

No interface tells the numbers that groups have (`reuseport_ida`): a group that is lost with its number is seen by a
kernel with kmemleak alone.
"""

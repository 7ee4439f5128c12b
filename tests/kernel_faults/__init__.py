# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Plant faults into a kernel, one at a time, and demand that a case notices each."""

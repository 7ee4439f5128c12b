# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Boot a kernel in QEMU and talk to it."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which lines of a kernel's reuseport code the cases reach, and why they do not reach the others."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the running kernel is, can do, and is known to do wrong."""

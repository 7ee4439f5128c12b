# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the harness one of the kernel's selftests: export it into a tree, and run it there."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The running kernel: its release, its features, and its known bugs."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the cases over and over on one kernel, and watch what the kernel and the harness hold."""

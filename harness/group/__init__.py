# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reuseport groups on the kernel under test, and deliveries to them."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Code that runs inside the guest, before pytest and with it."""

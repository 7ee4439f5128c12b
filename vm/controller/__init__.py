# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A test run on several kernels: the controller, the relays, and the messages between them."""

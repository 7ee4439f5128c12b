# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Frames, and the veth pair that carries them."""

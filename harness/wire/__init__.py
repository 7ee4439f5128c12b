# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Frames, the veth pair that carries them, and the namespaces at its ends."""

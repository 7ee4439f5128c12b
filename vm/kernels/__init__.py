# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels as data, and how one gets from a user's word to an image with modules."""

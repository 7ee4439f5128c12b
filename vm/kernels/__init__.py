# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels: the catalogue, the archives, the store, and what a guest's kernel needs."""

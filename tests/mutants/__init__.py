# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mutants of the programs and of the model: generated, tried one by one, and listed."""

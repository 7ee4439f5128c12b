# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories and packets that nobody thought of: made by hypothesis, predicted by the model, answered by the kernel."""

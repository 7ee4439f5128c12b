# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BPF programs and their maps: compiled, loaded, read and changed."""

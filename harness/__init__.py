# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a case talks to: programs, groups, packets and the model; runs on the kernel under test."""

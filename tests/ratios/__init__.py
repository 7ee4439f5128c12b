# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is claimed to be fast, measured against the plain way in one run."""

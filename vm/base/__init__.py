# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every part of vm/ uses: errors, progress lines, the project's fingerprint."""

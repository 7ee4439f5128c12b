# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every part of vm/ uses: errors, directories, files, child processes, progress lines."""

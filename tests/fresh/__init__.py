# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fresh installations of distributions, in which the commands of the README are run."""

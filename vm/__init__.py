# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What runs on the host: kernels as data, booting them, and turning each into a pytest-xdist worker."""

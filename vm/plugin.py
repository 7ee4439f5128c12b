# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn each --kernel into a pytest-xdist worker inside a VM."""

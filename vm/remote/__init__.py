# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""VMs on other machines, through ssh."""

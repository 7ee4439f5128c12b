# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The results of a run and the reports that are made from them."""

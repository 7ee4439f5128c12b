# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bcc tracers of the selection path, and the stories made from their events."""

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The exit statuses of `python -m vm`."""

from __future__ import annotations

from vm.report.outcomes import EXIT_STATUS, KernelOutcome

EXIT_INFRASTRUCTURE = EXIT_STATUS[KernelOutcome.INFRASTRUCTURE]
"""A kernel could not be fetched or built: nothing was learnt about it."""
EXIT_USAGE = 4
"""A word that names no kernel, a path that holds none; as pytest's usage error."""
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
"""The reader of the output has ended; a shell's status for SIGPIPE."""

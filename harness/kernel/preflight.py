# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The check that this process can run cases on the running kernel."""

from __future__ import annotations

import os

from harness.loader.bindings import BpfError, LibbpfMissingError
from harness.loader.maps import create_map
from harness.wire.namespace import Namespace

_IN_A_VM = "cases run in a VM with pytest's --vm (`./bootstrap tox -e vm`), a command with `python -m vm run`"
"""What works for whoever has a checkout, and for whoever has the wheel."""


def missing_requirement() -> str | None:
    """Return in one line what keeps cases from running here, and the remedy; None if nothing does."""
    if os.geteuid() != 0:
        return f"this needs root. Without it: {_IN_A_VM}"
    try:
        Namespace.create().close()
    except OSError as error:
        return f"this needs network namespaces: {error}. Without them: {_IN_A_VM}"
    try:
        create_map("sockarray", max_entries=1).close()
    except LibbpfMissingError as error:
        return f"this needs libbpf: {error}"
    except BpfError as error:
        return f"this needs CAP_BPF and a kernel with BPF_SYSCALL, 5.3 or newer: {error}. Without them: {_IN_A_VM}"
    return None

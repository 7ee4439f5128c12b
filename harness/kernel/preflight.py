# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The check that this process can run cases on the running kernel."""

from __future__ import annotations

import os

from harness.loader.bindings import BpfError, LibbpfMissingError
from harness.loader.maps import create_map
from harness.wire.namespace import Namespace


def missing_requirement() -> str | None:
    """Return in one line what keeps cases from running here, and the remedy; None if nothing does."""
    if os.geteuid() != 0:
        return "cases need root: run `sudo ./bootstrap tox -e host`, or `./bootstrap tox -e vm`, which does not"
    try:
        Namespace.create().close()
    except OSError as error:
        return f"cases need network namespaces: {error}; run `./bootstrap tox -e vm`"
    try:
        create_map("sockarray", max_entries=1).close()
    except LibbpfMissingError as error:
        return f"cases need libbpf: {error}"
    except BpfError as error:
        return f"cases need CAP_BPF and a kernel with BPF_SYSCALL, 5.3 or newer: {error}; run `./bootstrap tox -e vm`"
    return None

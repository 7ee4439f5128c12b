# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a run's results.json is and what harness/ reads of it. docs/results.md describes the whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 2
"""The version of the file's form; docs/results.schema.json is its JSON Schema."""

READABLE = {1, SCHEMA}
"""The versions that this program reads. 1 had neither `functions` nor `merged`."""

DIRECTORY = "results"
"""The directory of all runs, in the directory that the run was started in."""

LATEST = "latest"
"""The link to the last run's directory."""

FILE = "results.json"


class CaseEntry(TypedDict):
    """The part of a case's entry that harness/ reads."""

    id: str
    outcome: str


class KernelEntry(TypedDict):
    """The part of a kernel's entry that harness/ reads; `release` is empty for a kernel that never booted."""

    name: str
    release: str
    version: str
    cases: list[CaseEntry]


def load(path: Path) -> dict[str, Any]:
    """Return the content of the results.json at `path`, or in the directory `path`.

    Raises OSError, and ValueError for a file of another schema or none.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} holds no results: {error}") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError(f"{file} holds no results")
    if data["schema"] not in READABLE:
        versions = " and ".join(map(str, sorted(READABLE)))
        raise ValueError(f"{file} has schema {data['schema']}, this program reads {versions}")
    return data


def load_kernels(path: Path) -> list[KernelEntry]:
    """Return the entries of the run's kernels. Raises OSError and ValueError as `load` does."""
    kernels = load(path).get("kernels")
    if not isinstance(kernels, list):
        raise ValueError(f"{path} holds no results: it has no kernels")
    return cast("list[KernelEntry]", kernels)

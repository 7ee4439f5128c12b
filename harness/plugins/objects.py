# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile the programs on the host, before any kernel needs them, and hand them to the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.interface.keys import OBJECTS

_OBJECTS = pytest.StashKey[dict[str, Path]]()


def compiled(config: pytest.Config) -> dict[str, Path]:
    """Return the compiled programs by name; compile them at the first call, unless a controller did.

    Raises UsageError if a program does not compile.
    """
    if _OBJECTS not in config.stash:
        given = getattr(config, "workerinput", {}).get(OBJECTS)
        if given is None:
            # Imported here: compiling is the controller's work, and a worker under emulation counts milliseconds.
            from harness.loader.compiler import CompileError, compile_variants  # noqa: PLC0415
            from harness.plugins.own_program import replacements  # noqa: PLC0415

            try:
                found = compile_variants() | replacements(config)
            except CompileError as error:
                raise pytest.UsageError(str(error)) from error
            config.stash[_OBJECTS] = found
        else:
            config.stash[_OBJECTS] = {name: Path(path) for name, path in given.items()}
    return config.stash[_OBJECTS]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the compiled programs to a worker: inside a VM there is no clang to run.

    The workers of `tox -e host` would compile the same ones at once. Other workers on this kernel compile for
    themselves if a case needs it: where this is installed as a plugin, most runs have no such case.
    """
    manager, option = node.config.pluginmanager, node.config.option
    if not (manager.has_plugin("vm-controller") or option.where_possible):
        return
    node.workerinput[OBJECTS] = {name: str(path) for name, path in compiled(node.config).items()}


@pytest.fixture(scope="session")
def objects(pytestconfig: pytest.Config) -> dict[str, Path]:
    """Return the compiled programs by name."""
    return compiled(pytestconfig)

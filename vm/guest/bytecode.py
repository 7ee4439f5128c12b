# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Give a guest the bytecode of all Python modules in one file.

To import a module Python looks at half a dozen files, each of which costs several messages from guest to host, and
there are seven hundred modules. The process that collects the cases on the host (`vm.controller.collecting`) has
imported all of them and writes their bytecode to the file: this module is its pytest plugin. In a guest `vm.guest.pid1`
calls `install`.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from importlib.util import spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:  # to import typing takes a guest longer than all of this
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

FILE = "REUSEPORT_BYTECODE"
"""The environment variable that names the file to write."""


def pytest_sessionfinish() -> None:
    """Write the bytecode of the imported modules, if the environment names a file."""
    if path := os.environ.get(FILE):
        write(path, sys.modules)


def write(path: str, modules: Mapping[str, ModuleType]) -> None:
    """Write the bytecode of modules to a file, which appears whole or not at all.

    Modules that do not come from a file are left out, and those that pytest rewrites. Raises OSError.
    """
    packed: dict[str, tuple[str, bool, bytes]] = {}
    for name, module in list(modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.name != name or spec.origin is None:
            continue
        if type(spec.loader) is SourceFileLoader:
            code = marshal.dumps(spec.loader.get_code(name))
        elif type(spec.loader) is ExtensionFileLoader:
            code = b""
        else:
            continue
        packed[name] = spec.origin, spec.submodule_search_locations is not None, code
    with open(f"{path}.part", "wb") as file:  # noqa: PTH123  # pathlib, too, takes a guest long
        marshal.dump(packed, file)
    os.rename(f"{path}.part", path)  # noqa: PTH104


def install(path: str) -> None:
    """From now on import the modules in the file from there, and others as ever; all, if the file is damaged."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            packed = marshal.loads(file.read())  # written by `write`
    except (OSError, EOFError, ValueError, TypeError):
        return
    # Behind the finders for built-in and frozen modules.
    sys.meta_path.insert(2, _Finder(packed))


class _Finder:
    """A finder for the modules in the file."""

    def __init__(self, packed: dict[str, tuple[str, bool, bytes]]) -> None:
        self._packed = packed

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module, None if the file does not have it (`importlib.abc.MetaPathFinder`)."""
        if name not in self._packed:
            return None
        origin, is_package, code = self._packed[name]
        loader: Any = _Loader(name, origin, code) if code else ExtensionFileLoader(name, origin)
        within = [os.path.dirname(origin)] if is_package else None  # noqa: PTH120
        return spec_from_file_location(name, origin, loader=loader, submodule_search_locations=within)


class _Loader(SourceFileLoader):
    """A loader with the bytecode in memory; everything else comes from the module's file."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """Return the module's code."""
        code: CodeType = marshal.loads(self._code)  # written by `write`
        return code

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Carry the bytecode of Python's modules into a guest in one file.

To import a module Python looks at half a dozen files, and each look is several messages from guest to host; there are
seven hundred modules. The process that collects the cases on the host (`collect_here` of the controller) has imported
all of them, so it writes down what they came to. As a pytest plugin this module does that at the end of such a process;
in a guest `vm.guest.pid1` calls `install`.
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
    """Write down what was imported, if there is a file to write to."""
    if path := os.environ.get(FILE):
        write(path, sys.modules)


def write(path: str, modules: Mapping[str, ModuleType]) -> None:
    """Write the bytecode of modules to a file: under another name first, for nobody to read half of it.

    Left out are those that come from elsewhere than a file, and those that pytest rewrites. Raises OSError.
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
    """Import from now on what the file has from there, and all else as ever; so everything from a file that is cut."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            packed = marshal.loads(file.read())  # written by `write`
    except (OSError, EOFError, ValueError, TypeError):
        return
    # Behind what is built in and frozen.
    sys.meta_path.insert(2, _Finder(packed))


class _Finder:
    """Find modules in what was packed."""

    def __init__(self, packed: dict[str, tuple[str, bool, bytes]]) -> None:
        self._packed = packed

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module, None if it was not packed (`importlib.abc.MetaPathFinder`)."""
        if name not in self._packed:
            return None
        origin, is_package, code = self._packed[name]
        loader: Any = _Loader(name, origin, code) if code else ExtensionFileLoader(name, origin)
        within = [os.path.dirname(origin)] if is_package else None  # noqa: PTH120
        return spec_from_file_location(name, origin, loader=loader, submodule_search_locations=within)


class _Loader(SourceFileLoader):
    """Load a module from bytecode in memory, and whatever else is asked of it from its file."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """Return the module's code."""
        code: CodeType = marshal.loads(self._code)  # written by `write`
        return code

# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Have runs in processes of their own fetch kernels from a small archive, and boot them in no more than a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fake_archive import FakeArchive
from runs import FAKE_VM, ROOT
from test_archive import add_kernel, signing_key
from test_kernel_commands import CATALOGUE

from vm.boot.acceleration import SUBSTITUTE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["signing_key"]  # a fixture

VERSION = "6.1.9-1"

# For every Python of the run: its catalogue is the archive's.
SITE_CUSTOMIZE = """
import pathlib
import vm.kernels.catalogue
vm.kernels.catalogue._DATA = pathlib.Path({catalogue!r})
"""


@dataclass(frozen=True, kw_only=True)
class SmallArchive:
    """An archive with a kernel called 6.1, and the variables of runs that fetch from it."""

    archive: FakeArchive
    cache: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def kernel(self) -> tuple[str, ...]:
        """Return the arguments that choose the kernel."""
        return ("--kernel", "6.1", "--mirror", self.archive.mirror)

    @property
    def entry(self) -> Path:
        """Return the kernel's directory in the store."""
        return self.cache / "reuseport-harness/kernels/6.1" / VERSION


@pytest.fixture(scope="session")
def one_kernel(signing_key: Path, tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    """Return an archive with one kernel, which no test changes."""
    root = tmp_path_factory.mktemp("archive")
    archive = FakeArchive(root=root, keyring=signing_key / "key.gpg", home=signing_key / "home")
    add_kernel(archive, VERSION)
    archive.publish("stable")
    return archive


@pytest.fixture
def small_archive(one_kernel: FakeArchive, tmp_path: Path) -> SmallArchive:
    """Return what a run needs to fetch the kernel into a cache of the test."""
    site = tmp_path / "site"
    site.mkdir()
    catalogue = site / "kernels.toml"
    catalogue.write_text(CATALOGUE.format(keyring=one_kernel.keyring))
    (site / "sitecustomize.py").write_text(SITE_CUSTOMIZE.format(catalogue=str(catalogue)))
    cache = tmp_path / "cache"
    variables = {
        "PYTHONPATH": f"{site}:{ROOT}",
        "XDG_CACHE_HOME": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
        SUBSTITUTE: FAKE_VM,
    }
    return SmallArchive(archive=one_kernel, cache=cache, variables=variables)

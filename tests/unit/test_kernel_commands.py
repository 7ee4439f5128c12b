# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The commands of docs/kernels.md about the store do what they say, on an archive of the test's own."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from documented import commands
from test_archive import add_kernel, archive, needs_apt, signing_key, stored

import vm.kernels.catalogue
from vm.__main__ import main
from vm.base.paths import cache_root

if TYPE_CHECKING:
    from pathlib import Path

    from fake_archive import FakeArchive

__all__ = ["archive", "signing_key"]  # fixtures

KERNELS = commands("docs/kernels.md")
CATALOGUE = """\
default = ["6.1"]
[archive.debian]
name = "Debian"
keyrings = ["{keyring}"]
keyring_from = "debian-archive-keyring"
aliases = []
security = "-security"
flavour = "amd64"
kinds = ["image", "binary", "modules", "base"]
[kernel."6.1"]
suites = ["stable"]
[kernel."7.2"]
suites = ["stable"]
"""


@pytest.fixture
def offered(archive: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """Have the catalogue's two kernels come from the archive of the test."""
    catalogue = tmp_path / "kernels.toml"
    catalogue.write_text(CATALOGUE.format(keyring=archive.keyring))
    monkeypatch.setattr(vm.kernels.catalogue, "_DATA", catalogue)
    add_kernel(archive, "6.1.9-1")
    add_kernel(archive, "7.2.3-1", abi="7.2.0-1")
    archive.publish("stable")
    return archive


def typed(command: str) -> list[str]:
    """Return the arguments of a command of the page, which has to be there."""
    assert command in KERNELS
    return shlex.split(command)[3:]


@needs_apt
def test_kernels_are_listed_fetched_and_pruned(offered: FakeArchive, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = ("--mirror", offered.mirror)
    assert main([*typed("python -m vm list"), *mirror]) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[-1]) for row in listed[1:3]] == [("6.1", "fetch"), ("7.2", "fetch")]
    assert main([*typed("python -m vm fetch 6.1 '7.*'"), *mirror]) == 0
    assert {path.split("/")[0] for path in stored()} == {"6.1", "7.2"}
    capsys.readouterr()

    assert main(typed("python -m vm prune")) == 0
    assert "removed" not in capsys.readouterr().out, "no entry is old"
    add_kernel(offered, "6.1.10-1", abi="6.1.0-10")
    offered.publish("stable")
    shutil.rmtree(cache_root() / "apt")  # lists are taken as they are for hours
    assert main(["fetch", "6.1", *mirror]) == 0
    assert main(typed("python -m vm prune")) == 0
    assert "removed 6.1 6.1.9-1" in capsys.readouterr().out

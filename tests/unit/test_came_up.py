# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is remembered of VMs that came up on this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vm.boot import came_up
from vm.boot.came_up import record_of
from vm.boot.options import GuestOptions
from vm.kernels.kernel import Kernel

if TYPE_CHECKING:
    from pathlib import Path

    from vm.boot.came_up import Record


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"an image")
    return Kernel(name="k", image=image, release="6.1.0", modules=None, config=None, headers=None, version="")


def known(kernel: Kernel, options: GuestOptions | None = None) -> Record:
    record = record_of(kernel, qemu=sys.executable, options=options or GuestOptions())
    assert record is not None
    return record


def files(directory: Path) -> list[Path]:
    return list((directory / "cache/reuseport-harness/came-up").glob("*"))


def test_vm_that_came_up_is_remembered_until_one_does_not(kernel: Kernel) -> None:
    assert known(kernel).seconds is None
    known(kernel).came_up(12.5)
    assert known(kernel).seconds == 12.5
    assert known(replace(kernel, name="another name")).seconds == 12.5
    known(kernel).failed()
    assert known(kernel).seconds is None


def test_another_image_or_vm_is_another(kernel: Kernel) -> None:
    known(kernel).came_up(12.5)
    for options in (GuestOptions(memory=700), GuestOptions(cpus=1), GuestOptions(append=("quiet",))):
        assert known(kernel, options).seconds is None
    kernel.image.write_bytes(b"the image, built again")
    assert known(kernel).seconds is None


@pytest.mark.parametrize("content", ["", "soon", "nan", "inf", "-1", "0"])
def test_damaged_file_counts_as_none(kernel: Kernel, tmp_path: Path, content: str) -> None:
    known(kernel).came_up(12.5)
    (file,) = files(tmp_path)
    file.write_text(content)
    assert known(kernel).seconds is None


def test_image_that_cannot_be_read_has_no_record(kernel: Kernel) -> None:
    kernel.image.unlink()
    assert record_of(kernel, qemu=sys.executable, options=GuestOptions()) is None


def test_oldest_are_forgotten(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(came_up, "_MOST", 2)
    for number in (1, 2, 3):
        known(kernel, GuestOptions(cpus=number)).came_up(12.5)
        for file in files(tmp_path):
            os.utime(file, (0, file.stat().st_mtime - 10))
    assert [known(kernel, GuestOptions(cpus=number)).seconds for number in (1, 2, 3)] == [None, 12.5, 12.5]

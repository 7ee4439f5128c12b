# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A cache that is damaged, by a full disk, a lost power supply or a hand, is noticed, said and mended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_archive import add_kernel, archive, needs_apt, quiet, series, signing_key

from vm.__main__ import main
from vm.base.errors import MirrorError
from vm.base.paths import cache_root
from vm.kernels.archive import Archive
from vm.kernels.entries import kernel_store
from vm.kernels.obtain import obtain, update

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_archive import FakeArchive

    from vm.kernels.kernel import Kernel

    Damage = Callable[[Path], None]

__all__ = ["archive", "signing_key"]  # fixtures

NOWHERE = "http://127.0.0.1:9/debian"


def cut(path: Path) -> None:
    """Take the second half of a file away."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    """Leave a file with nothing, as a lost power supply does."""
    path.write_bytes(b"")


def damage_lists(what: str, damage: Damage) -> None:
    """Damage apt's lists, and forget what this process has read of them."""
    (listing,) = (kernel_store().root.parent / "apt/lists").glob(f"*{what}*")
    damage(listing)
    Archive._kernel_packages.cache_clear()


def fetched(archive: FakeArchive) -> Kernel:
    """Return a kernel that is in the store."""
    add_kernel(archive, "6.1.9-1")
    archive.publish("stable")
    return obtain(series(archive), progress=quiet, mirror=archive.mirror)


STORED = {
    "vmlinuz": cut,
    "config": change,
    "lib/modules/6.1.0-9-amd64/kernel/net/9p/9pnet.ko": cut,
    "lib/modules/6.1.0-9-amd64/kernel/net/9p/9pnet_virtio.ko": change,
    "lib/modules/6.1.0-9-amd64/modules.dep": empty,
    "lib/modules/6.1.0-9-amd64/kernel/net/sctp/sctp.ko": Path.unlink,
    "contents.json": cut,
}


@needs_apt
@pytest.mark.parametrize(("file", "damage"), STORED.items())
def test_damaged_kernel_in_the_store_is_reported_and_fetched_again(
    archive: FakeArchive, file: str, damage: Damage
) -> None:
    kernel = fetched(archive)
    home = kernel.image.parent
    before = (home / file).read_bytes()
    damage(home / file)
    said: list[str] = []
    assert obtain(series(archive), progress=said.append, mirror=archive.mirror) == kernel
    assert (home / file).read_bytes() == before
    assert said[0].startswith(f"6.1: 6.1.9-1 in the store is damaged ({file}")
    assert said[0].endswith("), and is fetched or copied again")
    assert obtain(series(archive), progress=pytest.fail, mirror=NOWHERE) == kernel


@needs_apt
@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
def test_kernel_with_a_damaged_manifest_is_fetched_again(archive: FakeArchive, damage: Damage) -> None:
    kernel = fetched(archive)
    damage(kernel.image.with_name("kernel.json"))
    assert obtain(series(archive), progress=quiet, mirror=archive.mirror) == kernel
    assert obtain(series(archive), progress=pytest.fail, mirror=NOWHERE) == kernel


@needs_apt
def test_kernel_that_cannot_be_fetched_again_is_not_booted(archive: FakeArchive) -> None:
    kernel = fetched(archive)
    cut(kernel.image)
    (kernel_store().root.parent / "apt/stamps").rename(kernel_store().root.parent / "apt/no-stamps")
    said = r"6\.1\.9-1 in the store is damaged \(vmlinuz has changed\), and could not be fetched again: "
    with pytest.raises(MirrorError, match=f"{said}{NOWHERE} cannot be reached"):
        obtain(series(archive), progress=quiet, mirror=NOWHERE)
    assert not kernel.image.exists()
    assert obtain(series(archive), progress=quiet, mirror=archive.mirror) == kernel


@needs_apt
def test_image_of_a_kernel_without_digests_is_looked_at(archive: FakeArchive) -> None:
    """As the store had them before."""
    kernel = fetched(archive)
    kernel.image.with_name("contents.json").unlink()
    assert obtain(series(archive), progress=pytest.fail, mirror=NOWHERE) == kernel
    cut(kernel.image)
    said: list[str] = []
    assert obtain(series(archive), progress=said.append, mirror=archive.mirror) == kernel
    assert "vmlinuz is cut short" in said[0]


@needs_apt
def test_update_replaces_a_damaged_kernel(archive: FakeArchive) -> None:
    kernel = fetched(archive)
    cut(kernel.image)
    assert update(series(archive), progress=quiet, mirror=archive.mirror) == kernel
    assert obtain(series(archive), progress=pytest.fail, mirror=NOWHERE) == kernel


@needs_apt
@pytest.mark.parametrize(("what", "damage"), [("Packages", cut), ("Packages", change), ("InRelease", cut)])
def test_package_lists_are_downloaded_again(archive: FakeArchive, what: str, damage: Damage) -> None:
    kernel = fetched(archive)
    shutil.rmtree(kernel_store().root)
    damage_lists(what, damage)
    assert obtain(series(archive), progress=quiet, mirror=archive.mirror) == kernel


@pytest.mark.parametrize("content", [b"", b'{"schema": 2, "kno', b"[]", b'{"schema": 2, "known": [{}]}', b"\xff\x00"])
def test_damaged_file_about_kvm_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["accel"]) == 0
    before = capsys.readouterr()
    file = cache_root() / "acceleration.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    assert main(["accel"]) == 0
    assert capsys.readouterr() == before
    assert main(["accel", "--forget"]) == 0
    assert not file.exists()

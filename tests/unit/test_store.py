# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The store holds whole kernels or none, whatever happens to the run that makes one."""

from __future__ import annotations

import argparse
import errno
import threading
from typing import TYPE_CHECKING

import pytest

from vm.base.errors import StoreError
from vm.commands import prune as prune_command
from vm.kernels.entries import kernel_store
from vm.kernels.store import Manifest, Store, compare_versions, seal, translate_oserror

if TYPE_CHECKING:
    from pathlib import Path


def manifest(version: str = "1", modules: str = "now", **fields: int) -> Manifest:
    return Manifest(release="6.1.0", version=version, headers=False, modules=modules, **fields)


def publish(store: Store, name: str, version: str, *, modules: str = "now") -> None:
    with store.staging(name, version) as stage:
        (stage / "vmlinuz").write_text(f"{version} {modules}")
        seal(stage, manifest(version, modules))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "kernels")


def files(store: Store) -> list[str]:
    always = (".lock", "contents.json")
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.name not in always)


def test_a_published_kernel_is_found(store: Store) -> None:
    publish(store, "6.1", "6.1.9-1")
    entry = store.newest("6.1", modules="now")
    assert entry is not None
    assert (entry.path.name, entry.manifest.version) == ("6.1.9-1", "6.1.9-1")
    assert entry.size > 0
    assert entry.path.stat().st_mode & 0o777 == 0o755, "other users of the machine may read it"
    assert store.newest("6.2", modules="now") is None


def test_the_newest_is_the_newest_by_version_and_not_by_spelling(store: Store) -> None:
    for version in ("6.1.9-1", "6.1.10-1", "6.1.10-1~bpo1"):
        publish(store, "6.1", version)
    assert [entry.path.name for entry in store.entries("6.1")] == ["6.1.10-1", "6.1.10-1~bpo1", "6.1.9-1"]


def test_failed_entry_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.staging("6.1", "1") as stage:
            (stage / "vmlinuz").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(store) == ["6.1"]


def test_failed_entry_leaves_the_old_one(store: Store) -> None:
    publish(store, "6.1", "1", modules="old")

    def fail() -> None:
        with store.staging("6.1", "1") as stage:
            seal(stage, manifest("1", "new"))
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="no space left"):
        fail()
    assert files(store) == ["6.1", "6.1/1", "6.1/1/kernel.json", "6.1/1/vmlinuz"]
    assert store.newest("6.1", modules="old") is not None


def test_a_version_is_replaced_when_it_is_made_anew(store: Store) -> None:
    publish(store, "6.1", "1", modules="old")
    assert store.newest("6.1", modules="new") is None, "it lacks modules that are wanted now"
    publish(store, "6.1", "1", modules="new")
    entry = store.newest("6.1", modules="new")
    assert entry is not None
    assert (entry.path / "vmlinuz").read_text() == "1 new"
    assert files(store) == ["6.1", "6.1/1", "6.1/1/kernel.json", "6.1/1/vmlinuz"]


def test_next_run_removes_what_a_killed_one_left(store: Store) -> None:
    publish(store, "6.1", "1")
    (store.root / "6.1/.staging-killed/half").mkdir(parents=True)
    with store.locked("6.1", progress=pytest.fail):
        pass
    assert files(store) == ["6.1", "6.1/1", "6.1/1/kernel.json", "6.1/1/vmlinuz"]


@pytest.mark.parametrize("text", ["", "{}", '{"release": 1, "surprise": 2}', "[]"])
def test_damaged_entry_is_ignored(store: Store, text: str) -> None:
    publish(store, "6.1", "1")
    (store.root / "6.1/1/kernel.json").write_text(text)
    assert store.entries("6.1") == []


def test_an_entry_of_another_layout_is_out_of_date(store: Store) -> None:
    with store.staging("6.1", "1") as stage:
        seal(stage, manifest(layout=0))
    assert store.entries("6.1")
    assert store.newest("6.1", modules="now") is None


def test_one_run_waits_for_the_other_and_says_so(store: Store) -> None:
    said: list[str] = []
    waiting = threading.Event()
    order: list[str] = []

    def progress(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with store.locked("6.1", progress=progress):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.locked("6.1", progress=pytest.fail):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["6.1: waiting for another run that is fetching it"]
    with store.locked("6.2", progress=pytest.fail):
        pass


def test_error_for_an_unwritable_store_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=str(tmp_path)),
        Store(root=tmp_path / "file/kernels").locked("6.1", progress=print),
    ):
        pass


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left.*python -m vm prune.*XDG_CACHE_HOME"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot be used.*chown.*XDG_CACHE_HOME"),
        (errno.EROFS, "cannot be used.*chown"),
        (errno.EIO, "cannot be used: as the system says.*XDG_CACHE_HOME"),
    ],
)
def test_the_file_system_s_answers_come_with_a_remedy(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(StoreError, match=said), translate_oserror(tmp_path):
        raise OSError(number, "as the system says")


def test_store_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    unreadable = Store(root=tmp_path / ("x" * 300))
    for read in (unreadable.names, lambda: unreadable.newest("6.1", modules="now")):
        with pytest.raises(StoreError, match=r"File name too long.*XDG_CACHE_HOME"):
            read()


@pytest.mark.parametrize(
    ("one", "other"), [("6.1.9-1", "6.1.10-1"), ("7.3~rc7-1~exp1", "7.3-1"), ("6.12.9-1~bpo12+1", "6.12.9-1")]
)
def test_versions_are_ordered_as_dpkg_does(one: str, other: str) -> None:
    assert compare_versions(one, other) < 0 < compare_versions(other, one)
    assert compare_versions(one, one) == 0


def test_prune_keeps_the_newest_and_removes_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vm.kernels.requirements.modules_digest", lambda: "now")
    store = kernel_store()
    publish(store, "6.1", "6.1.9-1")
    publish(store, "6.1", "6.1.10-1")
    publish(store, "6.1", "6.1.11-1", modules="old")
    publish(store, "path-abc", "def")
    (store.root / "6.1/.staging-killed").mkdir()
    partial = tmp_path / "reuseport-harness/apt/archives/6.12/linux-image.deb"
    partial.parent.mkdir(parents=True)
    partial.write_text("half")

    assert prune_command.run(argparse.Namespace()) == 0
    assert files(store) == ["6.1", "6.1/6.1.10-1", "6.1/6.1.10-1/kernel.json", "6.1/6.1.10-1/vmlinuz", "path-abc"]
    assert not partial.exists()
    assert capsys.readouterr().out.splitlines() == [
        "removed 6.1 6.1.11-1",
        "removed 6.1 6.1.9-1",
        "removed path-abc def",
        "removed the interrupted download of 6.12",
    ]
    assert prune_command.run(argparse.Namespace()) == 0
    assert capsys.readouterr().out == "there is nothing to remove\n"

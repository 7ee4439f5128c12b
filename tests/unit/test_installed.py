# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel that runs is found where distributions install it; without its image the newest installed one is."""

from __future__ import annotations

import contextlib
import gzip
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_archive import image, module

import vm.kernels.catalogue
from vm.__main__ import main
from vm.base.errors import MissingToolError, NotAKernelError, TooOldError, UnknownKernelError
from vm.kernels import requirements
from vm.kernels.catalogue import Selection, load_catalogue
from vm.kernels.entries import kernel_store
from vm.kernels.installed import find_installed
from vm.kernels.kernel import missing_options
from vm.kernels.obtain import archive_of, obtain, select
from vm.kernels.store import Manifest, seal

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = "6.9.7-300.test"
DEBIAN = {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "VERSION_CODENAME": "bookworm"}
FEDORA = {"PRETTY_NAME": "Fedora Linux 42", "VERSION_CODENAME": ""}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root() -> Iterator[Path]:
    """Return an empty root that other users may look into."""
    directory = Path(tempfile.mkdtemp(prefix="root-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def install(root: Path, path: str, release: str) -> Path:
    """Put an image at `path` below `root`, with one module where its modules belong."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image(release))
    veth = root / f"usr/lib/modules/{release}/kernel/drivers/net/veth.ko"
    veth.parent.mkdir(parents=True, exist_ok=True)
    veth.write_bytes(module("veth"))
    return file


@pytest.mark.parametrize("path", [f"boot/vmlinuz-{RUNNING}", f"usr/lib/modules/{RUNNING}/vmlinuz"])
def test_the_running_kernel_is_found_where_distributions_have_it(root: Path, path: str) -> None:
    install(root, "boot/vmlinuz-6.10.1-1", "6.10.1-1")
    file = install(root, path, RUNNING)
    found = find_installed(RUNNING, root=root)
    assert (found.image, found.release, found.note) == (file, RUNNING, "")


def test_without_its_image_the_newest_installed_one_is_taken_and_a_line_says_so(root: Path) -> None:
    install(root, "boot/vmlinuz-6.9.1-1-amd64", "6.9.1-1-amd64")
    newest = install(root, "boot/vmlinuz-6.10.1-1-amd64", "6.10.1-1-amd64")
    install(root, "boot/vmlinuz-0-rescue-0123abcd", "6.9.1-1-amd64")
    found = find_installed(RUNNING, root=root)
    assert found.image == newest
    assert found.note == f"no image of the running kernel, {RUNNING}, is installed: taking 6.10.1-1-amd64, which is"
    said: list[str] = []
    kernel = obtain(Selection(name="running", source=found), progress=said.append)
    assert said[0] == f"running: {found.note}"
    assert (kernel.name, kernel.release) == ("running", "6.10.1-1-amd64")
    assert kernel.modules is not None
    assert [file.name for file in kernel.modules.rglob("*.ko")] == ["veth.ko"]


def test_machine_without_any_image_gets_an_error_with_a_remedy(root: Path) -> None:
    with pytest.raises(NotAKernelError, match=rf"{RUNNING}, has no image.*containers.*package.*vm list.*--kernel PATH"):
        find_installed(RUNNING, root=root)


def test_an_installed_kernel_that_is_too_old_is_named(root: Path) -> None:
    install(root, "boot/vmlinuz-4.18.0-1", "4.18.0-1")
    with pytest.raises(TooOldError, match=r"installed kernel .*vmlinuz-4\.18\.0-1 is Linux 4\.18\.0-1"):
        find_installed("4.18.0-1", root=root)


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Be another user for a while, if this is root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_image_that_only_root_can_read_is_named_with_a_remedy(root: Path) -> None:
    install(root, "boot/vmlinuz-6.8.1-1", "6.8.1-1")
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING).chmod(0o600 if os.geteuid() == 0 else 0)
    with (
        as_ordinary_user(),
        pytest.raises(NotAKernelError, match=rf"vmlinuz-{RUNNING} cannot be read.*root.*sudo chmod a\+r .*vm list"),
    ):
        find_installed(RUNNING, root=root)
    copy = install(root, f"usr/lib/modules/{RUNNING}/vmlinuz", RUNNING)
    with as_ordinary_user():
        assert find_installed(RUNNING, root=root).image == copy, "Fedora has two"


def test_the_kernel_s_own_copy_of_its_configuration_is_read_where_no_file_has_it(root: Path) -> None:
    install(root, f"usr/lib/modules/{RUNNING}/vmlinuz", RUNNING)
    (root / "proc").mkdir()
    (root / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_64BIT=y\n"))
    kernel = obtain(Selection(name="running", source=find_installed(RUNNING, root=root)), progress=print)
    missing = {option.option for option in missing_options(kernel)}
    assert "CONFIG_64BIT" not in missing
    assert "CONFIG_VETH" in missing
    assert find_installed("6.1.0-other", root=root).config is None, "it is the running kernel's"


def test_the_kernel_s_own_copy_is_read_without_modules_too(root: Path) -> None:
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING)
    shutil.rmtree(root / "usr")
    (root / "proc").mkdir()
    (root / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_64BIT=y\n"))
    kernel = obtain(Selection(name="running", source=find_installed(RUNNING, root=root)), progress=print)
    assert kernel.modules is None
    assert "CONFIG_64BIT" not in {option.option for option in missing_options(kernel)}


# The word, and the default


def on_machine(
    monkeypatch: pytest.MonkeyPatch, *, root: Path, release: dict[str, str], sources: str, keys: bool = True
) -> None:
    """Make this a machine with `root`, os-release and apt sources of its own."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setattr(platform, "release", lambda: RUNNING)
    monkeypatch.setattr(vm.kernels.catalogue, "find_installed", lambda running: find_installed(running, root=root))
    apt = root / "bin/apt-get"
    apt.parent.mkdir(exist_ok=True)
    apt.write_text(f"#!/bin/sh\ncat <<'EOF'\n{sources}\nEOF\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
    catalogue = root / "kernels.toml"
    catalogue.write_text(vm.kernels.catalogue._DATA.read_text().replace("/usr/share/keyrings", str(root)))
    monkeypatch.setattr(vm.kernels.catalogue, "_DATA", catalogue)
    if keys:
        (root / "debian-archive-keyring.gpg").touch()


BOOKWORM = "'http://m/debian/dists/bookworm/InRelease' x"


def test_the_default_is_the_distribution_s_own_kernel_where_its_archive_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING)
    on_machine(monkeypatch, root=root, release=DEBIAN, sources=BOOKWORM)
    catalogue = load_catalogue()
    assert [one.name for one in select([], catalogue=catalogue)] == ["6.1"]
    assert [one.word for one in select(["7.2", "default"], catalogue=catalogue)] == ["7.2", "6.1"]


def test_a_kernel_in_the_store_needs_no_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING)
    on_machine(monkeypatch, root=root, release=DEBIAN, sources="", keys=False)
    with kernel_store().staging("6.1", "6.1.9-1") as stage:
        seal(stage, Manifest(release="6.1.9", version="6.1.9-1", headers=False, modules=requirements.modules_digest()))
    assert [one.name for one in select([], catalogue=load_catalogue())] == ["6.1"]


@pytest.mark.parametrize(
    ("release", "sources"),
    [(DEBIAN, ""), (FEDORA, ""), (FEDORA, BOOKWORM)],
    ids=["no-sources", "another-distribution", "debootstrap-there"],
)
def test_the_default_is_otherwise_the_installed_kernel(
    root: Path, monkeypatch: pytest.MonkeyPatch, release: dict[str, str], sources: str
) -> None:
    install(root, f"usr/lib/modules/{RUNNING}/vmlinuz", RUNNING)
    on_machine(monkeypatch, root=root, release=release, sources=sources)
    catalogue = load_catalogue()
    assert [(one.name, one.word) for one in select([], catalogue=catalogue)] == [("running", "running")]
    with_mirror = select([], catalogue=catalogue, mirror="file:///srv/debian")
    assert [one.name for one in with_mirror] == ["6.1" if release is DEBIAN else "running"], "a mirror is a source"


def test_machine_with_neither_gets_the_reasons_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, root=root, release=DEBIAN, sources="")
    with pytest.raises(UnknownKernelError) as raised:
        select([], catalogue=load_catalogue())
    message = str(raised.value)
    assert "\n" not in message
    for part in ("name no Debian archive", "--mirror ADDRESS", f"{RUNNING}, has no image", "--kernel PATH"):
        assert part in message


def test_missing_keys_rule_an_archive_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING)
    on_machine(monkeypatch, root=root, release=DEBIAN, sources=BOOKWORM, keys=False)
    catalogue = load_catalogue()
    with pytest.raises(MissingToolError, match=r"keys of Debian's archive.*debian-archive-keyring"):
        archive_of(catalogue.series["6.1"].origin).demand_source()
    assert [one.word for one in select([], catalogue=catalogue)] == ["running"]


def test_list_has_it_or_says_why_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_machine(monkeypatch, root=root, release=FEDORA, sources="")
    monkeypatch.setattr("vm.commands.list_kernels.find_installed", lambda running: find_installed(running, root=root))
    assert main(["list"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1:] == []
    assert "note: without running: the running kernel" in printed.err
    assert "note: without 5.10, 6.1" in printed.err
    assert "note: without noble, plucky" in printed.err
    install(root, f"boot/vmlinuz-{RUNNING}", RUNNING)
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["running", "*", RUNNING]
